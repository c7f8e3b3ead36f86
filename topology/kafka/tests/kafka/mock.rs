//! The suites on librdkafka's mock cluster.

use topology_conformance::{guarantee_suite, log_suite};

use crate::harness::{OnMock, on_mock};

log_suite! { [] on_mock }
guarantee_suite! { [] OnMock }
