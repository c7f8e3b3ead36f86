//! The suites on a real broker.

use topology_conformance::{guarantee_suite, log_suite, topic_suite};

use crate::harness::{OnBroker, on_broker};

log_suite! { [#[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]] on_broker }
topic_suite! { [#[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]] on_broker }
guarantee_suite! { [#[ignore = "needs KAFKA_BOOTSTRAP: run scripts/test"]] OnBroker }
