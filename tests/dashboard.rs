//! The dashboard and the alarms in `docs/operations.md` use only metrics and labels that the service
//! exports, by the names that Prometheus gives them, and the dashboard shows every metric of the
//! service.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails if a file that it reads is malformed"
)]

use std::convert::Infallible;

use promql_parser::parser::{self, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;
use webhook_delivery::telemetry::names::{
    ATTRIBUTES, INSTRUMENTS, InstrumentKind, engine_instruments,
};

const DASHBOARD: &str = include_str!("../deploy/grafana/dashboards/webhook-delivery.json");
const OPERATIONS: &str = include_str!("../docs/operations.md");

/// Returns the names of a metric in Prometheus.
fn series(name: &str, unit: &str, kind: InstrumentKind) -> Vec<String> {
    let mut name = name.replace('.', "_");
    match unit {
        "s" => name.push_str("_seconds"),
        "By" if !name.contains("bytes") => name.push_str("_bytes"),
        "1" if !name.ends_with("ratio") => name.push_str("_ratio"),
        _ => {}
    }
    match kind {
        InstrumentKind::Counter => vec![name + "_total"],
        InstrumentKind::Gauge | InstrumentKind::UpDownCounter => vec![name],
        InstrumentKind::Histogram => ["_bucket", "_count", "_sum"]
            .map(|part| name.clone() + part)
            .to_vec(),
    }
}

/// Returns the expressions of all panels of the dashboard.
fn expressions() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                let own = members.get("expr").and_then(Value::as_str);
                found.extend(own.map(str::to_owned));
                members.values().for_each(|member| collect(member, found));
            }
            Value::Array(elements) => elements.iter().for_each(|element| collect(element, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::from_str(DASHBOARD).unwrap(), &mut found);
    found
}

/// The metrics and labels that an expression uses.
#[derive(Default)]
struct Used {
    metrics: Vec<String>,
    labels: Vec<String>,
}

impl Used {
    fn in_expression(expression: &str) -> Self {
        // Grafana's own variable for a range.
        let expression = expression.replace("$__rate_interval", "1m");
        let parsed = parser::parse(&expression).unwrap_or_else(|e| panic!("{e}: {expression}"));
        let mut used = Self::default();
        walk_expr(&mut used, &parsed).unwrap();
        used
    }

    fn select(&mut self, selector: &VectorSelector) {
        self.metrics.extend(selector.name.clone());
        let matchers = selector.matchers.matchers.iter();
        self.labels
            .extend(matchers.map(|matcher| matcher.name.clone()));
    }
}

impl ExprVisitor for Used {
    type Error = Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Infallible> {
        match expression {
            Expr::VectorSelector(selector) => self.select(selector),
            Expr::MatrixSelector(range) => self.select(&range.vs),
            Expr::Aggregate(aggregate) => {
                let by = aggregate
                    .modifier
                    .iter()
                    .flat_map(|by| by.labels().labels.clone());
                self.labels.extend(by);
            }
            _ => {}
        }
        Ok(true)
    }
}

/// The expressions in the documentation: the code blocks of the language `promql`.
fn alarms() -> Vec<String> {
    let blocks = OPERATIONS.split("```promql\n").skip(1);
    let expressions = blocks.filter_map(|block| block.split("```").next());
    expressions.map(str::to_owned).collect()
}

fn assert_uses_known_names(expressions: &[String]) {
    let service = INSTRUMENTS.map(|of| series(of.name, of.unit, of.kind));
    let engine = engine_instruments().into_iter();
    let engine = engine.map(|of| series(&of.name, of.unit, of.kind));
    let metrics: Vec<String> = service.into_iter().chain(engine).flatten().collect();
    let mut labels: Vec<String> = ATTRIBUTES.map(|name| name.replace('.', "_")).into();
    labels.push("le".to_owned());
    for expression in expressions {
        let used = Used::in_expression(expression);
        assert!(!used.metrics.is_empty(), "{expression}");
        for metric in used.metrics {
            assert!(metrics.contains(&metric), "{metric}: {expression}");
        }
        for label in used.labels {
            assert!(labels.contains(&label), "{label}: {expression}");
        }
    }
}

#[test]
fn dashboard_uses_metrics_and_labels_that_exist() {
    let expressions = expressions();
    assert!(expressions.len() > 20, "{expressions:?}");
    assert_uses_known_names(&expressions);
}

#[test]
fn documented_alarms_use_metrics_and_labels_that_exist() {
    let alarms = alarms();
    assert!(alarms.len() >= 5, "{alarms:?}");
    assert_uses_known_names(&alarms);
}

#[test]
fn dashboard_shows_every_metric_of_the_service() {
    let shown = expressions().concat();
    for instrument in INSTRUMENTS {
        let series = series(instrument.name, instrument.unit, instrument.kind);
        assert!(
            series.iter().any(|name| shown.contains(name)),
            "{instrument:?} is not shown"
        );
    }
}

#[test]
fn every_panel_has_a_description_and_the_right_source() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let described = panel["description"]
            .as_str()
            .is_some_and(|text| !text.is_empty());
        assert!(described, "{}", panel["title"]);
        assert_eq!(
            panel["datasource"]["uid"], "prometheus",
            "{}",
            panel["title"]
        );
    }
}
