//! `health` and `clock accept`: how the server is, and what a person can do about its clock.

use super::{Client, Failure, Target, print};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

/// `stormwheel health`.
#[derive(Debug, Args)]
#[command(after_help = "Ends with 1 when the server is not ready, so scripts can wait for it.")]
pub struct Health {
    #[command(flatten)]
    target: Target,
}

/// `stormwheel clock`.
#[derive(Debug, Args)]
pub struct Clock {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    action: ClockAction,
}

#[derive(Debug, Subcommand)]
enum ClockAction {
    /// Accept a leap of the machine's clock, so that timers go on
    Accept,
}

impl Health {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = Client::new(&self.target.server)?;
        match client.send(Method::GET, "/readyz?verbose", None).await {
            Ok(answer) if self.target.json => {
                print::raw(&answer.body);
                Ok(())
            }
            Ok(answer) => {
                print::line(&describe(&answer.json()?));
                Ok(())
            }
            Err(Failure::Refused { body, .. }) if self.target.json => {
                print::raw(body.as_bytes());
                Err(Failure::Failed("the server is not ready".to_owned()))
            }
            Err(Failure::Refused { problem, body }) => match serde_json::from_str::<Value>(&body) {
                Ok(report) if report.get("checks").is_some() => {
                    print::line(&describe(&report));
                    Err(Failure::Failed("the server is not ready".to_owned()))
                }
                _ => Err(Failure::Refused { problem, body }),
            },
            Err(failure) => Err(failure),
        }
    }
}

impl Clock {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let ClockAction::Accept = self.action;
        let client = Client::new(&self.target.server)?;
        let answer = client.send(Method::POST, "/v1/clock/accept", None).await?;
        if self.target.json {
            print::raw(&answer.body);
        } else {
            let is_accepted =
                answer.json()?.get("result").and_then(Value::as_str) == Some("accepted");
            print::line(if is_accepted {
                "accepted; timers go on by the machine's clock"
            } else {
                "nothing to accept: the clock is not held"
            });
        }
        Ok(())
    }
}

/// The status and the checks, one a line.
fn describe(report: &Value) -> String {
    let status = report.get("status").and_then(Value::as_str).unwrap_or("ok");
    let checks = report.get("checks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let rows: Vec<Vec<String>> = checks
        .iter()
        .map(|check| {
            let text = |name: &str| check.get(name).and_then(Value::as_str).unwrap_or_default();
            let is_ok = check.get("ok").and_then(Value::as_bool).unwrap_or(false);
            let mark = if is_ok { "ok" } else { "FAILED" };
            vec![text("name").to_owned(), mark.to_owned(), text("detail").to_owned()]
        })
        .collect();
    if rows.is_empty() {
        return status.to_owned();
    }
    format!("{status}\n{}", print::table(&["CHECK", "", "DETAIL"], &rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn checks_are_a_table() {
        let report = json!({"status": "degraded", "checks": [
            {"name": "clock", "ok": true, "detail": ""},
            {"name": "disk", "ok": false, "detail": "full"},
        ]});
        assert_eq!(
            describe(&report),
            "degraded\nCHECK          DETAIL\nclock  ok\ndisk   FAILED  full"
        );
        assert_eq!(describe(&json!({"status": "ready"})), "ready");
    }
}
