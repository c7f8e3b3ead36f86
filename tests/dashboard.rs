//! The dashboard asks only for metrics and labels that the service has, by the names that
//! Prometheus gives them; README lists every metric of the service, `docs/metrics.md` every one of
//! the engine.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails where what it reads is not as it must be"
)]

use std::convert::Infallible;

use promql_parser::parser::{self, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;
use webhook_delivery::telemetry::names::{
    ATTRIBUTES, INSTRUMENTS, InstrumentKind as Kind, engine_instruments,
};

const DASHBOARD: &str = include_str!("../deploy/grafana/dashboards/webhook-delivery.json");
const METRICS: &str = include_str!("../docs/metrics.md");
const README: &str = include_str!("../README.md");

/// The names under which Prometheus knows a metric.
fn series(name: &str, unit: &str, kind: Kind) -> Vec<String> {
    let mut name = name.replace('.', "_");
    match unit {
        "s" => name.push_str("_seconds"),
        "By" if !name.contains("bytes") => name.push_str("_bytes"),
        "1" if !name.ends_with("ratio") => name.push_str("_ratio"),
        _ => {}
    }
    match kind {
        Kind::Counter => vec![name + "_total"],
        Kind::Gauge | Kind::UpDownCounter => vec![name],
        Kind::Histogram => ["_bucket", "_count", "_sum"]
            .map(|part| name.clone() + part)
            .to_vec(),
    }
}

/// Every expression of the dashboard's panels.
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

/// What an expression asks for.
#[derive(Default)]
struct Asked {
    metrics: Vec<String>,
    labels: Vec<String>,
}

impl Asked {
    fn of(expression: &str) -> Self {
        // Grafana's own variable for a range.
        let expression = expression.replace("$__rate_interval", "1m");
        let parsed = parser::parse(&expression).unwrap_or_else(|e| panic!("{e}: {expression}"));
        let mut asked = Self::default();
        walk_expr(&mut asked, &parsed).unwrap();
        asked
    }

    fn select(&mut self, selector: &VectorSelector) {
        self.metrics.extend(selector.name.clone());
        let matchers = selector.matchers.matchers.iter();
        self.labels
            .extend(matchers.map(|matcher| matcher.name.clone()));
    }
}

impl ExprVisitor for Asked {
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

#[test]
fn every_expression_asks_for_metrics_and_labels_that_exist() {
    let expressions = expressions();
    assert!(expressions.len() > 20, "{expressions:?}");
    let service = INSTRUMENTS.map(|of| series(of.name, of.unit, of.kind));
    let engine = engine_instruments().into_iter();
    let engine = engine.map(|of| series(&of.name, of.unit, of.kind));
    let metrics: Vec<String> = service.into_iter().chain(engine).flatten().collect();
    let mut labels: Vec<String> = ATTRIBUTES.map(|name| name.replace('.', "_")).into();
    labels.push("le".to_owned());
    for expression in &expressions {
        let asked = Asked::of(expression);
        assert!(!asked.metrics.is_empty(), "{expression}");
        for metric in asked.metrics {
            assert!(metrics.contains(&metric), "{metric}: {expression}");
        }
        for label in asked.labels {
            assert!(labels.contains(&label), "{label}: {expression}");
        }
    }
}

#[test]
fn every_metric_is_shown_and_described() {
    let shown = expressions().concat();
    for instrument in INSTRUMENTS {
        let series = series(instrument.name, instrument.unit, instrument.kind);
        assert!(
            series.iter().any(|name| shown.contains(name)),
            "{instrument:?} is not shown"
        );
        let row = format!("| `{}`", instrument.name);
        assert!(README.contains(&row), "{instrument:?} is not in README");
    }
}

/// The rows of the document, as the engine's table has them.
#[test]
fn every_metric_of_the_engine_is_described() {
    let rows = engine_instruments().into_iter().map(|of| {
        let unit = of.unit.trim_matches(['{', '}']);
        let kind = match of.kind {
            Kind::Counter => "counter",
            Kind::UpDownCounter => "sum",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        format!("| `{}` | {kind} | {unit} | {} |\n", of.name, of.description)
    });
    let rows: String = rows.collect();
    assert!(
        METRICS.ends_with(&rows),
        "docs/metrics.md is to end with\n{rows}"
    );
}

#[test]
fn every_panel_says_what_it_shows() {
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
