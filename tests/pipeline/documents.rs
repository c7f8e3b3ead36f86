//! Keeps generated parts of the documents current. `UPDATE_GENERATED=1` rewrites them.

use std::fmt::Write as _;

use webhook_delivery::domain::headers::{DEAD_LETTER_HEADERS, DELIVERY_HEADERS};
use webhook_delivery::domain::reason::{Reason, ReasonKind};

use super::harness::World;

/// Compares, or with `UPDATE_GENERATED=1` replaces, what stands between two markers in a document.
#[track_caller]
fn check(document: &str, begin: &str, end: &str, expected: &str) {
    let path = format!("{}/{document}", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(begin).unwrap();
    let (shown, after) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, format!("{before}{begin}{expected}{end}{after}")).unwrap();
    } else {
        assert_eq!(
            shown, expected,
            "{document} is out of date; run with UPDATE_GENERATED=1"
        );
    }
}

fn check_generated(name: &str, expected: &str) {
    let begin = format!("<!-- generated: {name} -->\n\n");
    check(
        "docs/dead-letters.md",
        &begin,
        "\n<!-- end of generated -->",
        expected,
    );
}

fn table<'a>(title: &str, rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut table = format!("| {title} | meaning |\n|---|---|\n");
    for (name, meaning) in rows {
        writeln!(table, "| `{name}` | {meaning} |").unwrap();
    }
    table
}

#[test]
fn architecture_page_shows_the_topology() {
    let mermaid = World::new().mermaid;
    check("ARCHITECTURE.md", "```mermaid\n", "```", &mermaid);
}

#[test]
fn dead_letters_page_lists_reasons_and_headers() {
    let reasons = |kind| {
        let all = Reason::ALL.iter().filter(|reason| reason.kind() == kind);
        let rows = all.map(|reason| (reason.as_str(), reason.meaning()));
        table("reason", rows)
    };
    let dead_letter = reasons(ReasonKind::DeadLetter);
    check_generated("reasons of dead letters", &dead_letter);
    let failed = reasons(ReasonKind::FailedAttempt);
    check_generated("reasons of failed attempts", &failed);
    let rescheduled = reasons(ReasonKind::Rescheduled);
    check_generated("reasons without an attempt", &rescheduled);
    check_generated("headers of deliveries", &table("header", DELIVERY_HEADERS));
    let dead_letter_headers = table("header", DEAD_LETTER_HEADERS);
    check_generated("headers of dead letters", &dead_letter_headers);
}
