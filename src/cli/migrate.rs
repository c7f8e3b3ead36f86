//! `webhook-delivery migrate`: applies the database migrations, for installations that do not let
//! the service do so at start (`migrate_at_start = false`).

use anyhow::Context;

use crate::config::Config;
use crate::store;

pub(super) async fn run(config: &Config) -> anyhow::Result<()> {
    let store = store::open(&config.store).context("cannot open the store (`store`)")?;
    store
        .migrate()
        .await
        .context("cannot apply the database migrations")?;
    tracing::info!("the database schema is up to date");
    Ok(())
}
