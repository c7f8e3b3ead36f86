//! The part that applies the database migrations at start, unless `migrate_at_start` is false, and
//! then checks whether the database answers, for `/readyz`.

use std::convert::Infallible;
use std::time::Duration;

use super::Service;
use crate::store::StoreError;

/// The pause between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How long readiness waits for the first answer. Migrations of large tables may take longer; until
/// they are done, cached and new subscriptions are unavailable, and events wait.
const FIRST_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn run(service: Service) -> anyhow::Result<()> {
    tokio::select! {
        never = migrate_and_watch(&service) => match never {},
        () = service.stop.cancelled() => Ok(()),
    }
}

async fn migrate_and_watch(service: &Service) -> Infallible {
    let mut is_migrated = !service.config.migrate_at_start;
    loop {
        let answer = if is_migrated {
            watch(service, service.store.ping()).await
        } else {
            watch(service, service.store.migrate()).await
        };
        match answer {
            Ok(()) => is_migrated = true,
            Err(error) if is_migrated => {
                tracing::warn!(%error, "waiting for the database to answer; checking every 2 s");
            }
            Err(error) => {
                tracing::warn!(
                    %error,
                    "waiting for the database to apply the migrations; retrying every 2 s"
                );
            }
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// Awaits a call to the store and records its result for readiness.
async fn watch(
    service: &Service,
    call: impl Future<Output = Result<(), StoreError>>,
) -> Result<(), StoreError> {
    tokio::pin!(call);
    let answer = match tokio::time::timeout(FIRST_ANSWER_TIMEOUT, &mut call).await {
        Ok(answer) => answer,
        Err(_elapsed) => {
            service.readiness.stop_waiting_for_database();
            call.await
        }
    };
    service.readiness.record_database_answer(&answer);
    answer
}
