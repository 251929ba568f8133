//! The queries of the Grafana dashboard, with Grafana's variables filled in.

use serde_json::Value;
use std::fs;
use stormwheel_tests::repository;

/// What Grafana would put in place of its variables.
const VARIABLES: [(&str, &str); 4] =
    [("$__rate_interval", "1m"), ("$__interval", "5s"), ("$__range", "5m"), ("$instance", ".*")];

/// Every query of every panel, and the metric that the variable `instance` is made of.
pub(crate) fn queries() -> Vec<String> {
    let dashboard = read();
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut queries: Vec<String> = panels
        .iter()
        .filter(|panel| panel["type"] != "row")
        .flat_map(|panel| {
            let targets = panel["targets"].as_array();
            targets.unwrap_or_else(|| panic!("{} has no query", panel["title"]))
        })
        .map(|target| filled_in(&target["expr"]))
        .collect();
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    for variable in variables.iter().filter(|variable| variable["type"] == "query") {
        let definition = variable["definition"].as_str().expect("a definition");
        let inner = definition.strip_prefix("label_values(").expect("label_values");
        let (metric, label) = inner.trim_end_matches(')').split_once(", ").expect("two arguments");
        queries.push(format!("count by ({label}) ({metric})"));
    }
    queries
}

/// The queries of the annotations: they may yield nothing.
pub(crate) fn annotations() -> Vec<String> {
    let dashboard = read();
    let list = dashboard["annotations"]["list"].as_array().expect("annotations");
    list.iter()
        .filter(|annotation| annotation["expr"].is_string())
        .map(|annotation| filled_in(&annotation["expr"]))
        .collect()
}

fn read() -> Value {
    let path = repository().join("dashboards/stormwheel.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn filled_in(expression: &Value) -> String {
    let mut query = expression.as_str().expect("a query is text").to_owned();
    for (variable, value) in VARIABLES {
        query = query.replace(variable, value);
    }
    assert!(!query.contains('$'), "an unknown variable in {query}");
    query
}
