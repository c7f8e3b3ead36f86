//! A server's address that can be cut off from the server, and mended.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Relays connections while it is mended; ends them, and closes new ones at once, while it is cut.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// `host:port` of the proxy.
    pub(crate) address: String,
    mended: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What a Kafka broker says its address is, and what the proxy says in its place. Both are a
/// host and four bytes of a port, and of one length, so that nothing else of an answer changes.
type Addresses = Option<(Vec<u8>, Vec<u8>)>;

impl Proxy {
    /// A proxy of any server, mended.
    pub(crate) async fn of(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::relay(listener, server, None)
    }

    /// A proxy of a Kafka broker, cut. Clients go where the broker says that it is, so the proxy
    /// puts itself there.
    pub(crate) async fn of_kafka(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().to_string();
        assert!(
            server.starts_with("127.0.0.1:"),
            "{server} is not on loopback"
        );
        let addresses = Some((advertised(server), advertised(&own)));
        let proxy = Self::relay(listener, server.to_owned(), addresses);
        proxy.cut();
        proxy
    }

    fn relay(listener: TcpListener, server: String, addresses: Addresses) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let (mended, is_mended) = watch::channel(true);
        let addresses = Arc::new(addresses);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, addresses) = (server.clone(), Arc::clone(&addresses));
                let mut mended = is_mended.clone();
                drop(tokio::spawn(async move {
                    tokio::select! {
                        _cut = mended.wait_for(|mended| !mended) => {}
                        _ended = connect(client, &server, &addresses) => {}
                    }
                }));
            }
        });
        Self {
            address,
            mended,
            task,
        }
    }

    /// The server is down from now on.
    pub(crate) fn cut(&self) {
        self.mended.send_replace(false);
    }

    /// The server is there again.
    pub(crate) fn mend(&self) {
        self.mended.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

async fn connect(client: TcpStream, server: &str, addresses: &Addresses) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = async {
        match addresses {
            Some((theirs, own)) => answer(&mut from_server, &mut to_client, theirs, own).await,
            None => copy(&mut from_server, &mut to_client).await.map(drop),
        }
    };
    tokio::select! {
        ended = answers => ended,
        ended = copy(&mut from_client, &mut to_server) => ended.map(drop),
    }
}

/// Passes Kafka's answers on, each four bytes of length and so many bytes.
async fn answer(
    server: &mut OwnedReadHalf,
    client: &mut OwnedWriteHalf,
    theirs: &[u8],
    own: &[u8],
) -> std::io::Result<()> {
    loop {
        let length = server.read_u32().await?;
        let mut answer = vec![0; usize::try_from(length).unwrap()];
        server.read_exact(&mut answer).await?;
        let mut at = 0;
        while let Some(found) = answer[at..].windows(theirs.len()).position(|w| w == theirs) {
            answer[at + found..][..own.len()].copy_from_slice(own);
            at += found + own.len();
        }
        client.write_u32(length).await?;
        client.write_all(&answer).await?;
    }
}

/// An address as Kafka's protocol has it.
fn advertised(address: &str) -> Vec<u8> {
    let (host, port) = address.rsplit_once(':').unwrap();
    let port: i32 = port.parse().unwrap();
    [host.as_bytes(), &port.to_be_bytes()].concat()
}
