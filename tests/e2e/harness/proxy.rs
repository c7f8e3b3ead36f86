//! A proxy of a server whose connections can be cut and restored.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Relays connections until it is cut; then ends them, and closes new ones at once, until it is
/// restored.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// `host:port` of the proxy.
    pub(crate) address: String,
    is_up: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// The address that a Kafka broker advertises, and the proxy's, which replaces it in answers. Both
/// are a host and four bytes of a port, and of the same length, so that nothing else changes.
#[derive(Debug)]
struct Advertised {
    broker: Vec<u8>,
    proxy: Vec<u8>,
}

impl Proxy {
    /// Returns a proxy of any server.
    pub(crate) async fn of(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::relay(listener, server, None)
    }

    /// Returns a proxy of a Kafka broker, cut. Clients connect to the address that the broker
    /// advertises, so the proxy replaces it with its own.
    pub(crate) async fn of_kafka(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().to_string();
        assert!(
            server.starts_with("127.0.0.1:"),
            "{server} is not on loopback"
        );
        let addresses = Some(Advertised {
            broker: encode(server),
            proxy: encode(&own),
        });
        let proxy = Self::relay(listener, server.to_owned(), addresses);
        proxy.cut();
        proxy
    }

    fn relay(listener: TcpListener, server: String, addresses: Option<Advertised>) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let (is_up, watched) = watch::channel(true);
        let addresses = Arc::new(addresses);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = server.clone();
                let addresses = Arc::clone(&addresses);
                let mut is_up = watched.clone();
                drop(tokio::spawn(async move {
                    tokio::select! {
                        _cut = is_up.wait_for(|is_up| !is_up) => {}
                        _ended = connect(client, &server, addresses.as_ref().as_ref()) => {}
                    }
                }));
            }
        });
        Self {
            address,
            is_up,
            task,
        }
    }

    /// Ends all connections and refuses new ones.
    pub(crate) fn cut(&self) {
        self.is_up.send_replace(false);
    }

    /// Accepts connections again.
    pub(crate) fn restore(&self) {
        self.is_up.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

async fn connect(
    client: TcpStream,
    server: &str,
    addresses: Option<&Advertised>,
) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = async {
        match addresses {
            Some(addresses) => relay_answers(&mut from_server, &mut to_client, addresses).await,
            None => copy(&mut from_server, &mut to_client).await.map(drop),
        }
    };
    tokio::select! {
        ended = answers => ended,
        ended = copy(&mut from_client, &mut to_server) => ended.map(drop),
    }
}

/// Relays Kafka's answers, which are a length of four bytes and as many bytes, with the proxy's
/// address in place of the broker's.
async fn relay_answers(
    server: &mut OwnedReadHalf,
    client: &mut OwnedWriteHalf,
    Advertised { broker, proxy }: &Advertised,
) -> std::io::Result<()> {
    loop {
        let length = server.read_u32().await?;
        let mut answer = vec![0; usize::try_from(length).unwrap()];
        server.read_exact(&mut answer).await?;
        let mut at = 0;
        while let Some(found) = answer[at..].windows(broker.len()).position(|w| w == broker) {
            answer[at + found..][..proxy.len()].copy_from_slice(proxy);
            at += found + proxy.len();
        }
        client.write_u32(length).await?;
        client.write_all(&answer).await?;
    }
}

/// Encodes an address as Kafka's protocol does.
fn encode(address: &str) -> Vec<u8> {
    let (host, port) = address.rsplit_once(':').unwrap();
    let port: i32 = port.parse().unwrap();
    [host.as_bytes(), &port.to_be_bytes()].concat()
}
