//! docs/operations.md against the service: no key, metric or alert that only one of them knows.

use std::collections::BTreeSet;
use std::fs;
use stormwheel_tests::{Server, repository, run_stormwheel};

#[test]
fn every_key_of_the_configuration_is_documented() {
    let mut keys = BTreeSet::new();
    let mut section = String::new();
    for line in run_stormwheel(&["config", "show"]).lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned() + ".";
        } else if let Some((key, _)) = line.split_once(" = ") {
            keys.insert(format!("{section}{key}"));
        }
    }
    assert_eq!(documented("## Configuration"), keys);
}

#[test]
fn every_metric_is_documented_with_its_labels() {
    let server = Server::start();
    let client = server.client();
    // What is counted by route and status appears with the first request.
    client.get("/v1/namespaces").expect_status(200);
    let scrape = client.get("/metrics").expect_status(200).text;
    let mut metrics: BTreeSet<String> = scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE stormwheel_"))
        .map(|line| {
            let (name, _) = line.split_once(' ').expect("a name and a type");
            format!("stormwheel_{name}{}", labels_of(&scrape, name))
        })
        .collect();
    metrics.insert("process_*".to_owned());
    assert_eq!(documented("## Metrics"), metrics);
}

#[test]
fn every_alert_is_documented_and_tested() {
    let read = |path: &str| fs::read_to_string(repository().join(path)).unwrap();
    let rules = read("dashboards/rules/stormwheel.yml");
    let tests = read("dashboards/rules-test.yml");
    let alerts: BTreeSet<String> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .map(str::to_owned)
        .collect();
    for alert in &alerts {
        let is_tested = tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n"));
        assert!(is_tested, "no test shows {alert} firing");
    }
    assert_eq!(documented("## Alerts"), alerts);
}

/// The names in the first column of the table below a heading of docs/operations.md.
fn documented(heading: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(repository().join("docs/operations.md")).unwrap();
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    lines
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(|name| match name.trim_end_matches('}').split_once('{') {
            Some((name, labels)) => name.to_owned() + &sorted(labels.split(',').collect()),
            None => name.to_owned(),
        })
        .collect()
}

/// Labels in braces; their order means nothing.
fn sorted(mut labels: Vec<&str>) -> String {
    labels.sort_unstable();
    format!("{{{}}}", labels.join(","))
}

/// The labels of a metric, sorted and in braces; nothing if it has none.
fn labels_of(scrape: &str, name: &str) -> String {
    let starts = ["{", "_bucket{"].map(|end| format!("stormwheel_{name}{end}"));
    let sample =
        scrape.lines().find_map(|line| starts.iter().find_map(|start| line.strip_prefix(start)));
    let Some((labels, _)) = sample.and_then(|sample| sample.rsplit_once('}')) else {
        return String::new();
    };
    let names = labels
        .split("\",")
        .filter_map(|label| label.split_once("=\""))
        .map(|(name, _)| name)
        .filter(|name| *name != "le")
        .collect::<Vec<_>>();
    if names.is_empty() { String::new() } else { sorted(names) }
}

#[test]
fn labels_are_read_off_a_scrape() {
    let scrape = "stormwheel_a_total 1\nstormwheel_b{y=\"1,2\",x=\"}\"} 2\n\
                  stormwheel_c_bucket{origin=\"live\",le=\"+Inf\"} 3\n";
    assert_eq!(labels_of(scrape, "a_total"), "");
    assert_eq!(labels_of(scrape, "b"), "{x,y}");
    assert_eq!(labels_of(scrape, "c"), "{origin}");
    assert_eq!(labels_of("stormwheel_d_bucket{le=\"+Inf\"} 3\n", "d"), "");
}
