//! An empty database on MariaDB, behind a proxy.

use sqlx::Connection;
use url::Url;
use uuid::Uuid;

use super::{Proxy, provided};

/// A database of one test. Nobody drops it: the server is private to the tests.
#[derive(Debug)]
pub(crate) struct Database {
    /// The setting `store`, with the proxy's address.
    pub(crate) url: String,
    /// Cuts the database off.
    pub(crate) proxy: Proxy,
}

impl Database {
    pub(crate) async fn create() -> Self {
        let server = provided("MARIADB_URL");
        let name = format!("e2e_{}", Uuid::now_v7().simple());
        let mut connection = sqlx::MySqlConnection::connect(&server).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        let created = sqlx::raw_sql(create).execute(&mut connection).await;
        created.unwrap();
        let mut url = Url::parse(&server).unwrap();
        let host = url.host_str().unwrap();
        let port = url.port().unwrap_or(3306);
        let proxy = Proxy::of(format!("{host}:{port}")).await;
        let (host, port) = proxy.address.rsplit_once(':').unwrap();
        url.set_host(Some(host)).unwrap();
        url.set_port(port.parse().ok()).unwrap();
        url.set_path(&name);
        Self {
            url: url.into(),
            proxy,
        }
    }
}
