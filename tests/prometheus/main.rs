//! The dashboard and the alert rules against a real Prometheus that scrapes the real server.
//!
//! Names and labels drift silently: a query for a metric that was renamed yields nothing, and a
//! rule on it never fires. So every query of the dashboard must yield series with numbers here, and
//! every metric that a rule selects must exist.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this crate is a test: a failure is its way to speak"
)]

mod dashboard;
mod monitor;
mod rules;
mod traffic;

use monitor::{Monitor, promtool};
use std::fs;
use stormwheel_tests::{Server, repository, wait_until};
use traffic::Traffic;

/// Metrics that are NaN as long as there is nothing to tell: no timer is due and waiting, no
/// checkpoint has ended, no log was synced, nobody knows what the disk has left.
const MAY_BE_NAN: [&str; 4] = [
    "stormwheel_oldest_due_timestamp_seconds",
    "stormwheel_checkpoint_last_success_timestamp_seconds",
    "stormwheel_log_sync_duration_seconds",
    "stormwheel_data_dir_free_bytes",
];

#[test]
fn every_query_of_the_dashboard_and_of_the_rules_yields_series() {
    let server = Server::start_with(&["--data-dir", "data", "--set", "checkpoint.interval=10s"]);
    let monitor = Monitor::start(server.port());
    let mut traffic = Traffic::new(server.client());
    traffic.prepare();
    wait_until("the first scrape", || {
        let found = monitor.query("up{job=\"stormwheel\"} == 1")?;
        if found.is_empty() { Err("not up".to_owned()) } else { Ok(()) }
    });

    let mut queries = dashboard::queries();
    assert!(queries.len() > 30, "the dashboard has only {} queries", queries.len());
    queries.extend(rules::selectors());
    wait_until("every query to yield a number", || {
        traffic.drive();
        let missing: Vec<String> =
            queries.iter().filter_map(|query| missing(&monitor, query)).collect();
        if missing.is_empty() { Ok(()) } else { Err(missing.join("\n  ")) }
    });

    for expression in rules::expressions().iter().chain(&dashboard::annotations()) {
        if let Err(error) = monitor.query(expression) {
            panic!("{expression}: {error}");
        }
    }
    assert_eq!(monitor.rules_in_trouble(), Vec::<String>::new());
    let calm =
        "ALERTS{alertname=~\"StormwheelDown|StormwheelShardTurnSlow|StormwheelRestartLoop\"}";
    assert_eq!(monitor.query(calm), Ok(Vec::new()), "alerts on a healthy server");
}

/// What is wrong with the answer to a query; `None` if there is a number in it.
fn missing(monitor: &Monitor, query: &str) -> Option<String> {
    match monitor.query(query) {
        Err(error) => panic!("{query}: {error}"),
        Ok(values) if values.is_empty() => Some(format!("no series: {query}")),
        Ok(values)
            if values.iter().all(|value| value.is_nan())
                && !MAY_BE_NAN.iter().any(|name| query.contains(name)) =>
        {
            Some(format!("not a number: {query}"))
        }
        Ok(_) => None,
    }
}

#[test]
fn the_scrape_is_well_formed() {
    let server = Server::start();
    let mut traffic = Traffic::new(server.client());
    traffic.prepare();
    traffic.drive();
    let scrape = server.client().get("/metrics").expect_status(200);
    assert!(scrape.content_type.starts_with("text/plain"), "{}", scrape.content_type);
    promtool(&["check", "metrics"], &scrape.text);
}

#[test]
fn configuration_and_rules_are_well_formed_and_the_rules_do_what_they_say() {
    let dashboards = repository().join("dashboards");
    for (command, file) in [
        ("check config", "prometheus.yml"),
        ("check rules", "rules/stormwheel.yml"),
        ("test rules", "rules-test.yml"),
    ] {
        let path = dashboards.join(file);
        assert!(fs::exists(&path).unwrap(), "{} is missing", path.display());
        let mut args: Vec<&str> = command.split(' ').collect();
        args.push(path.to_str().unwrap());
        promtool(&args, "");
    }
}
