//! A real Prometheus, and its tool.

use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use stormwheel_tests::{Client, Process, free_port, repository, wait_until};
use tempfile::TempDir;

/// What to do where Prometheus is not installed.
const HINT: &str = "`apt-get install prometheus` brings it, and ./test does it for you";

/// A Prometheus that scrapes one server each second; it ends with this value.
pub(crate) struct Monitor {
    client: Client,
    _process: Process,
    _folder: TempDir,
}

impl Monitor {
    /// Starts one with the configuration of `dashboards/`, and waits until it is ready.
    pub(crate) fn start(server_port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        fs::write(&config, configuration(server_port)).unwrap();
        let port = free_port();
        let args = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let mut process = Process::start(Path::new("prometheus"), &args, folder.path(), HINT);
        let client = Client::new(&format!("http://127.0.0.1:{port}"));
        wait_until("Prometheus to be ready", || {
            if let Some(reason) = process.ended() {
                panic!("{reason}");
            }
            match client.try_get("/-/ready") {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(answer.text),
                Err(error) => Err(error.to_string()),
            }
        });
        Self { client, _process: process, _folder: folder }
    }

    /// The values that a query yields now, one a series.
    pub(crate) fn query(&self, query: &str) -> Result<Vec<f64>, String> {
        let answer = self.client.get(&format!("/api/v1/query?query={}", encode(query)));
        let body = answer.json();
        if body["status"] != "success" {
            return Err(body["error"].as_str().unwrap_or("no error is given").to_owned());
        }
        let result = body["data"]["result"].as_array().expect("a vector");
        Ok(result.iter().map(value_of).collect())
    }

    /// Rules that did not evaluate, with what Prometheus says of them.
    pub(crate) fn rules_in_trouble(&self) -> Vec<String> {
        let body = wait_until("every rule to be evaluated", || {
            let body = self.client.get("/api/v1/rules").json();
            if rules_of(&body).any(|rule| rule["health"] == "unknown") {
                return Err("some were not".to_owned());
            }
            Ok(body)
        });
        assert!(rules_of(&body).count() > 0, "no rule was loaded");
        rules_of(&body)
            .filter(|rule| rule["health"] != "ok")
            .map(|rule| format!("{}: {}", rule["name"], rule["lastError"]))
            .collect()
    }
}

/// Runs `promtool`; the test fails with what it says if it finds anything.
pub(crate) fn promtool(args: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool does not start: {error}; {HINT}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "promtool {}: {}{}",
        args.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The configuration that is shipped, with the port of this test and faster.
fn configuration(server_port: u16) -> String {
    let dashboards = repository().join("dashboards");
    let mut text = fs::read_to_string(dashboards.join("prometheus.yml")).unwrap();
    let rules = format!("{}/rules/*.yml", dashboards.display());
    for (shipped, here) in [
        ("127.0.0.1:7400", format!("127.0.0.1:{server_port}")),
        ("scrape_interval: 5s", "scrape_interval: 1s".to_owned()),
        ("evaluation_interval: 15s", "evaluation_interval: 1s".to_owned()),
        ("rules/*.yml", rules),
    ] {
        assert!(text.contains(shipped), "dashboards/prometheus.yml has no `{shipped}`");
        text = text.replace(shipped, &here);
    }
    text
}

fn rules_of(body: &Value) -> impl Iterator<Item = &Value> {
    let groups = body["data"]["groups"].as_array().expect("groups");
    groups.iter().flat_map(|group| group["rules"].as_array().expect("rules"))
}

fn value_of(series: &Value) -> f64 {
    let text = series["value"][1].as_str().expect("a value is text");
    text.parse().expect("and a number")
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").expect("a string takes everything");
        encoded
    })
}
