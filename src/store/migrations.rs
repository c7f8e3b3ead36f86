//! The database schema. The migrations are the SQL files in `migrations/sqlite` and
//! `migrations/mysql`, which the build embeds into the binary. They are applied by
//! `webhook-delivery migrate`, and at start unless `migrate_at_start` is false (see
//! `app/database.rs`). To change the schema, add a file to both folders and name it below; never
//! edit one that was released, because the database records the checksum of each file.

use sqlx::SqlStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// The version, the description and the text of each file, as its name has them. `sqlx::migrate!`
/// would read the folder itself, but its crate compiles all of sqlx a second time, for the compiler.
type Files<const N: usize> = [(i64, &'static str, &'static str); N];

const SQLITE: Files<2> = [
    (
        20_261_124_000_001,
        "create subscriptions",
        include_str!("../../migrations/sqlite/20261124000001_create_subscriptions.sql"),
    ),
    (
        20_261_124_000_002,
        "create tenants",
        include_str!("../../migrations/sqlite/20261124000002_create_tenants.sql"),
    ),
];

const MYSQL: Files<3> = [
    (
        20_261_124_000_001,
        "create subscriptions",
        include_str!("../../migrations/mysql/20261124000001_create_subscriptions.sql"),
    ),
    (
        20_261_124_000_002,
        "create subscription secrets",
        include_str!("../../migrations/mysql/20261124000002_create_subscription_secrets.sql"),
    ),
    (
        20_261_124_000_003,
        "create tenants",
        include_str!("../../migrations/mysql/20261124000003_create_tenants.sql"),
    ),
];

pub(super) fn sqlite() -> Migrator {
    embed(SQLITE)
}

pub(super) fn mysql() -> Migrator {
    embed(MYSQL)
}

fn embed<const N: usize>(files: Files<N>) -> Migrator {
    let migrations = files.map(|(version, description, sql)| {
        let sql = SqlStr::from_static(sql);
        Migration::new(
            version,
            description.into(),
            MigrationType::Simple,
            sql,
            false,
        )
    });
    Migrator::with_migrations(migrations.into())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn every_file_is_embedded_as_sqlx_reads_it() {
        for (folder, embedded) in [("sqlite", sqlite()), ("mysql", mysql())] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("migrations")
                .join(folder);
            let read = Migrator::new(path).await.unwrap();
            let facts = |migrator: &Migrator| -> Vec<_> {
                let all = migrator.iter();
                all.map(|m| {
                    (
                        m.version,
                        m.description.clone(),
                        m.migration_type,
                        m.checksum.clone(),
                        m.no_tx,
                    )
                })
                .collect()
            };
            assert_eq!(facts(&embedded), facts(&read), "{folder}");
        }
    }
}
