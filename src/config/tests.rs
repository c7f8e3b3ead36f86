//! The values that the configuration takes and refuses, the errors, and the generated reference.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use topology_kafka::{Assignor, GroupProtocol};

use super::layers::PROPERTIES;
use super::*;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Loads layers without the developer's environment and files.
fn load(
    file: &str,
    variables: &[(&str, &str)],
    sets: &[(&str, &str)],
) -> Result<Config, ConfigErrors> {
    let mut layers = Layers::default();
    layers.add_file("test.toml", file)?;
    layers.add_variables(&pairs(variables), &telemetry::STANDARD_VARIABLES);
    layers.add_flags(&pairs(sets));
    Config::from_layers(layers)
}

fn with_sets(sets: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    load("", &[], sets)
}

fn with_variables(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    load("", variables, &[])
}

fn with_file(text: &str) -> Result<Config, ConfigErrors> {
    load(text, &[], &[])
}

fn path(error: &ConfigError) -> &str {
    match error {
        ConfigError::Invalid { path, .. } | ConfigError::Refused { path, .. } => path,
        ConfigError::File { file, .. } => file,
    }
}

#[track_caller]
fn check_refused(sets: &[(&str, &str)], paths: &[&str]) {
    let errors = with_sets(sets).unwrap_err();
    let found: Vec<&str> = errors.errors().iter().map(path).collect();
    assert_eq!(found, paths, "{errors}");
}

#[test]
fn defaults_are_complete_and_within_their_bounds() {
    let config = with_sets(&[]).unwrap();
    assert_eq!(config.application_id, "webhook-delivery");
    assert_eq!(config.log, LogKind::Embedded);
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.api.body_bytes_max, 262_144);
    assert_eq!(config.kafka.topics.retry, "retry_sub");
    let schedule = [10, 60, 600, 3_600, 21_600].map(Duration::from_secs);
    assert_eq!(config.retry.schedule.delays(), schedule);
    assert_eq!(config.retry.park_schedule, schedule[..3]);
    assert_eq!(config.retry.tiers.delays()[0], Duration::ZERO);
    assert_eq!(config.retry.tiers.delays()[1..], schedule);
    assert_eq!(config.delivery.max_age, Duration::from_hours(72));
    assert!(config.delivery.outage_guard);
    assert_eq!(config.roles, [Role::Api, Role::Deliver, Role::Retry]);
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let file = "[delivery]\nconcurrency = 1\nwindow = 1\ntimeout = \"1s\"";
    let variables = [
        ("WEBHOOK_DELIVERY__DELIVERY__CONCURRENCY", "2"),
        ("WEBHOOK_DELIVERY__DELIVERY__WINDOW", "2"),
        ("WEBHOOK_DELIVERY_OTHER", "of another program"),
    ];
    let config = load(file, &variables, &[("delivery.concurrency", "3")]).unwrap();
    assert_eq!(config.delivery.concurrency, 3);
    assert_eq!(config.delivery.window, 2);
    assert_eq!(config.delivery.timeout, Duration::from_secs(1));
}

#[test]
fn file_sets_every_kind_of_value() {
    let config = with_file(
        r#"
        log = "kafka"
        store = "sqlite:other/subscriptions.db"
        roles = ["deliver"]
        migrate_at_start = false
        [kafka]
        bootstrap_servers = "a:9092,b:9092"
        id_namespace = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
        [kafka.properties]
        "security.protocol" = "SASL_SSL"
        sasl.mechanism = "PLAIN"
        "queued.min.messages" = 100
        [kafka.topics]
        retry_partitions = 6
        [retry]
        schedule = ["100ms", "200ms", "300ms", "1s", "2s"]
        tiers = ["0s", "1s"]
        [egress]
        allow = ["127.0.0.0/8", "::1/128"]
        [delivery]
        in_flight_bytes = "8MiB"
        outage_guard = false
        "#,
    )
    .unwrap();
    assert_eq!(config.log, LogKind::Kafka);
    assert_eq!(config.roles, [Role::Deliver]);
    assert!(!config.migrate_at_start);
    assert_eq!(config.kafka.properties["security.protocol"], "SASL_SSL");
    assert_eq!(config.kafka.properties["sasl.mechanism"], "PLAIN");
    assert_eq!(config.kafka.properties["queued.min.messages"], "100");
    assert_eq!(
        config.retry.schedule.delays()[0],
        Duration::from_millis(100)
    );
    assert_eq!(config.egress.allow.len(), 2);
    assert_eq!(config.delivery.in_flight_bytes, 8 << 20);
    assert!(!config.delivery.outage_guard);
}

#[test]
fn the_environment_sets_lists_and_properties() {
    let variables = [
        (
            "WEBHOOK_DELIVERY__KAFKA__PROPERTIES__SECURITY_PROTOCOL",
            "SSL",
        ),
        (
            "WEBHOOK_DELIVERY__API__KEYS",
            "0123456789012345,1234567890123456",
        ),
        ("WEBHOOK_DELIVERY__EGRESS__ALLOW", "[\"127.0.0.0/8\"]"),
        ("WEBHOOK_DELIVERY__ROLES", "api,retry"),
        ("WEBHOOK_DELIVERY__API__LISTEN", "0.0.0.0:80"),
        ("WEBHOOK_DELIVERY__INGESTION__CREATE_MISSING", "true"),
    ];
    let config = with_variables(&variables).unwrap();
    assert_eq!(config.kafka.properties["security.protocol"], "SSL");
    // A key of digits keeps its leading zero.
    assert_eq!(config.api.keys[0].expose_secret(), "0123456789012345");
    assert_eq!(config.egress.allow.len(), 1);
    assert_eq!(config.roles, [Role::Api, Role::Retry]);
    assert!(config.api.create_missing);
}

#[test]
fn all_errors_are_reported_at_once() {
    let errors = with_sets(&[
        ("delivery.concurrency", "0"),
        ("delivery.timeout", "soon"),
        ("retry.schedule", "1s,2s"),
        ("retry.park_schedule", "0s"),
        ("kafka.topics.payload", "a b"),
        ("delivery.concurency", "5"),
    ])
    .unwrap_err();
    let text = errors.to_string();
    for line in [
        "6 errors in the configuration",
        "kafka.topics.payload = \"a b\" (from the flag --set): expected 1 to 249 \
         characters of A-Z a-z 0-9 . _ -, not \".\" or \"..\"",
        "delivery.concurrency = \"0\" (from the flag --set): expected a whole number from 1 to \
         100000",
        "delivery.timeout = \"soon\" (from the flag --set): expected a duration from 100ms to 5m",
        "retry.schedule = \"1s,2s\" (from the flag --set): expected a list of exactly 5 items; \
         each item is a duration from 1ms to 30d",
        "retry.park_schedule = \"0s\" (from the flag --set): expected a list of 1 to 8 items; \
         each item is a duration from 1ms to 30d",
        "delivery.concurency (from the flag --set): no such setting; [delivery] has \
         delivery.concurrency, ",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
    assert_eq!(errors.errors().len(), 6);
}

#[test]
fn unknown_variable_of_the_service_is_refused() {
    let variables = [("WEBHOOK_DELIVERY__KAFKA__BROKERS", "a:1")];
    let errors = with_variables(&variables).unwrap_err().to_string();
    assert!(errors.contains("kafka.brokers"), "{errors}");
    assert!(
        errors.contains("the environment variable WEBHOOK_DELIVERY__KAFKA__BROKERS"),
        "{errors}"
    );
    assert!(errors.contains("kafka.bootstrap_servers"), "{errors}");
}

#[test]
fn unknown_sections_and_sections_of_the_wrong_kind_are_refused() {
    check_refused(&[("telepathy.on", "true")], &["telepathy.on"]);
    check_refused(&[("", "true")], &[""]);
    let errors = with_file("api = 3").unwrap_err();
    assert_eq!(path(&errors.errors()[0]), "api");
    let errors = with_file("[store]\nurl = \"sqlite:x\"").unwrap_err();
    assert_eq!(path(&errors.errors()[0]), "store.url");
}

#[test]
fn file_that_cannot_be_read_is_an_error() {
    let missing = Config::load(Some(Path::new("no/such.toml")), &[]).unwrap_err();
    let expected = "no/such.toml: cannot be read: ";
    assert!(missing.to_string().contains(expected), "{missing}");
    let broken = with_file("log = \"kafka\"\nstore = ").unwrap_err();
    let expected = "test.toml: line 2 is not TOML: ";
    assert!(broken.to_string().contains(expected), "{broken}");
}

#[test]
fn error_names_the_layer_of_its_value() {
    let variables = [("WEBHOOK_DELIVERY__DELIVERY__WINDOW", "0")];
    let file = "[delivery]\n\ntimeout = \"1ms\"";
    let errors = load(file, &variables, &[("delivery.workers", "0")]).unwrap_err();
    let text = errors.to_string();
    for line in [
        "delivery.timeout = \"1ms\" (from test.toml line 3): ",
        "delivery.window = \"0\" (from the environment variable \
         WEBHOOK_DELIVERY__DELIVERY__WINDOW): ",
        "delivery.workers = \"0\" (from the flag --set): ",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
}

#[test]
fn error_of_several_settings_names_the_layer_too() {
    let variables = [("WEBHOOK_DELIVERY__API__LISTEN", "0.0.0.0:80")];
    let errors = load(
        "[retry]\ntiers = [\"0s\", \"1s\", \"2s\", \"3s\", \"4s\"]",
        &variables,
        &[],
    );
    let text = errors.unwrap_err().to_string();
    for line in [
        "api.listen = \"0.0.0.0:80\" (from the environment variable \
         WEBHOOK_DELIVERY__API__LISTEN): expected a loopback address",
        "kafka.topics.retry_partitions = 24 (from the default): expected a multiple of 5",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
}

#[test]
fn without_a_key_only_loopback_is_served() {
    check_refused(&[("api.listen", "0.0.0.0:8000")], &["api.listen"]);
    check_refused(&[("api.listen", "[::]:8000")], &["api.listen"]);
    check_refused(
        &[("api.listen", "10.0.0.1:8000"), ("api.keys", "")],
        &["api.listen"],
    );
    check_refused(
        &[
            ("api.listen", "0.0.0.0:8000"),
            ("ingestion.create_missing", "true"),
        ],
        &["api.listen", "ingestion.create_missing"],
    );
    assert!(with_sets(&[("api.listen", "[::1]:8000")]).is_ok());
    assert!(with_sets(&[("ingestion.create_missing", "true")]).is_ok());
    let keyed = [
        ("api.listen", "0.0.0.0:8000"),
        ("api.keys", "0123456789abcdef"),
    ];
    assert!(with_sets(&keyed).is_ok());
}

#[test]
fn group_protocol_and_assignor_decide_together() {
    let protocol = |sets: &[(&str, &str)]| with_sets(sets).unwrap().kafka.group_protocol;
    let cooperative = GroupProtocol::Classic(Assignor::CooperativeSticky);
    assert_eq!(protocol(&[]), cooperative);
    assert_eq!(
        protocol(&[("kafka.assignor", "roundrobin")]),
        GroupProtocol::Classic(Assignor::RoundRobin)
    );
    assert_eq!(
        protocol(&[("kafka.group_protocol", "consumer")]),
        GroupProtocol::Consumer
    );
}

#[test]
fn properties_that_the_guarantees_need_are_refused() {
    for name in [
        "group.id",
        "enable.auto.commit",
        "auto.offset.reset",
        "acks",
    ] {
        let path = format!("{PROPERTIES}.{name}");
        check_refused(&[(&path, "x")], &[&path]);
    }
    let variables = [("WEBHOOK_DELIVERY__KAFKA__PROPERTIES__GROUP_ID", "x")];
    assert!(with_variables(&variables).is_err());
}

#[test]
fn producer_limit_below_the_largest_record_is_refused() {
    let path = format!("{PROPERTIES}.message.max.bytes");
    for bytes in ["1000000", "1114123", "a lot"] {
        check_refused(&[(&path, bytes)], &[&path]);
    }
    for bytes in ["1114124", "100000000"] {
        let config = with_sets(&[(&path, bytes)]).unwrap();
        assert_eq!(config.kafka.properties["message.max.bytes"], bytes);
    }
}

#[test]
fn value_of_each_kind_is_checked() {
    check_refused(&[("application_id", "")], &["application_id"]);
    check_refused(&[("log", "papyrus")], &["log"]);
    check_refused(&[("store", "postgres://h/d")], &["store"]);
    check_refused(&[("store", "sqlite:")], &["store"]);
    check_refused(&[("roles", "")], &["roles"]);
    check_refused(&[("roles", "api,chef")], &["roles"]);
    check_refused(
        &[("kafka.bootstrap_servers", "localhost")],
        &["kafka.bootstrap_servers"],
    );
    check_refused(
        &[("kafka.topics.retry", "webhook_payload")],
        &["kafka.topics.retry"],
    );
    check_refused(
        &[("kafka.topics.retry_partitions", "25")],
        &["kafka.topics.retry_partitions"],
    );
    check_refused(&[("kafka.group_protocol", "x")], &["kafka.group_protocol"]);
    check_refused(&[("kafka.assignor", "sticky")], &["kafka.assignor"]);
    check_refused(
        &[
            ("kafka.group_protocol", "consumer"),
            ("kafka.assignor", "range"),
        ],
        &["kafka.assignor"],
    );
    check_refused(&[("retry.tiers", "10s,1m")], &["retry.tiers"]);
    check_refused(&[("retry.tiers", "0s,1m,1m")], &["retry.tiers"]);
    check_refused(&[("egress.allow", "everything")], &["egress.allow"]);
    check_refused(&[("api.body_bytes_max", "1GiB")], &["api.body_bytes_max"]);
    check_refused(&[("api.keys", "short")], &["api.keys"]);
    check_refused(
        &[("delivery.outage_guard", "maybe")],
        &["delivery.outage_guard"],
    );
}

#[test]
fn secrets_are_in_no_error_and_in_no_debug_output() {
    let errors = with_sets(&[
        ("api.keys", "hunter2"),
        ("store", "postgres://user:hunter2@h/d"),
        ("kafka.properties.group.id", "hunter2"),
        ("api.key", "hunter2"),
    ])
    .unwrap_err();
    assert_eq!(errors.errors().len(), 4);
    assert!(!format!("{errors} {errors:?}").contains("hunter2"));
    let errors = with_file("api.keys = [\"hunter2").unwrap_err();
    assert!(!format!("{errors} {errors:?}").contains("hunter2"));
    let config = with_sets(&[
        ("api.keys", "hunter2hunter2hunter2"),
        ("store", "mysql://user:hunter2@h/d"),
        ("kafka.properties.sasl.password", "hunter2"),
    ])
    .unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn service_variable_overrides_the_standard_variable() {
    let endpoint = |variables: &[(&str, &str)]| {
        let config = with_variables(variables).unwrap();
        config.telemetry.otlp_endpoint.map(String::from)
    };
    let standard = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://standard:4318");
    let own = (
        "WEBHOOK_DELIVERY__TELEMETRY__OTLP_ENDPOINT",
        "https://own/otlp",
    );
    assert_eq!(endpoint(&[]), None);
    assert_eq!(endpoint(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), None);
    assert_eq!(endpoint(&[standard]).unwrap(), "http://standard:4318/");
    assert_eq!(endpoint(&[own, standard]).unwrap(), "https://own/otlp");
}

#[test]
fn telemetry_is_bounded_and_takes_no_credentials() {
    check_refused(
        &[
            ("telemetry.otlp_endpoint", "http://user:secret@host:4318"),
            ("telemetry.trace_sample_ratio", "1.5"),
            ("telemetry.metrics_interval", "10ms"),
        ],
        &[
            "telemetry.otlp_endpoint",
            "telemetry.trace_sample_ratio",
            "telemetry.metrics_interval",
        ],
    );
}

#[test]
fn reference_and_example_file_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, text) in [
        ("docs/configuration.md", reference()),
        ("webhook-delivery.example.toml", example_file()),
    ] {
        let path = root.join(file);
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == text,
            "{file} is not current; run UPDATE_GENERATED=1 cargo test --lib config"
        );
    }
}

#[test]
fn example_file_changes_nothing() {
    let config = with_file(&example_file()).unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

#[test]
fn every_line_of_the_example_file_is_allowed() {
    let example = example_file();
    let lines = example.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => setting,
        _ => line,
    });
    let uncommented = lines.collect::<Vec<_>>().join("\n");
    // The example of a key is refused, so that nobody serves with it.
    let errors = with_file(&uncommented).unwrap_err();
    assert_eq!(errors.errors().len(), 1, "{errors}");
    assert_eq!(path(&errors.errors()[0]), "api.keys");
    let config =
        with_file(&uncommented.replace("<output of: openssl rand -hex 24>", "0123456789abcdef"));
    let config = config.unwrap();
    assert_eq!(config.api.keys.len(), 1);
    assert_eq!(config.delivery.workers, Some(2));
    assert_eq!(config.kafka.properties["security.protocol"], "SASL_SSL");
    assert_eq!(config.retry, Config::default().retry);
    assert_eq!(config.delivery.timeout, Config::default().delivery.timeout);
}
