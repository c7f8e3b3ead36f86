//! The database schema. The migrations are the SQL files in `migrations/sqlite` and
//! `migrations/mysql`, which the build embeds into the binary. They are applied by
//! `webhook-delivery migrate`, and at start unless `migrate_at_start` is false (see
//! `app/database.rs`). To change the schema, add a file to both folders; never edit one that was
//! released, because the database records the checksum of each file.

use sqlx::migrate::Migrator;

pub(super) static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
pub(super) static MYSQL: Migrator = sqlx::migrate!("migrations/mysql");
