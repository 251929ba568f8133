//! Some of everything that the service does, so that every metric has something to tell.

use serde_json::{Value, json};
use stormwheel_tests::Client;

/// Talks to one server.
pub(crate) struct Traffic {
    client: Client,
    round: u64,
}

impl Traffic {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, round: 0 }
    }

    /// What happens once: a namespace with a manual clock whose timer fires by the call, and one
    /// whose event timer fires by a watermark.
    pub(crate) fn prepare(&self) {
        let client = &self.client;
        client.put("/v1/namespaces/replay", r#"{"clock":"manual"}"#).expect_status(201);
        client.put("/v1/namespaces/replay/clock", r#"{"now":1000}"#).expect_status(200);
        client.put("/v1/namespaces/replay/keys/k/timers/t", r#"{"after":"1h"}"#).expect_status(201);
        let moved =
            client.put("/v1/namespaces/replay/clock", r#"{"advance":"2h"}"#).expect_status(200);
        assert_eq!(moved.json()["fired"], 1, "{}", moved.text);

        client
            .put("/v1/keys/k/timers/window", r#"{"at":5000,"domain":"event"}"#)
            .expect_status(201);
        client.put("/v1/watermarks/source", r#"{"watermark":6000}"#).expect_status(200);
    }

    /// One round: timers that fire at once, timers for later, heartbeats, cancels, and mistakes.
    pub(crate) fn drive(&mut self) {
        self.round += 1;
        let round = self.round;
        let client = &self.client;
        let mut ops: Vec<Value> = ["1ms", "5s", "30s", "5m", "30m", "12h", "40d"]
            .iter()
            .enumerate()
            .map(|(index, after)| {
                let (key, name) = (format!("round-{round}"), format!("n{index}"));
                json!({"op": "register", "key": key, "name": name, "after": after})
            })
            .collect();
        ops.push(json!({"op": "touch", "key": "device", "after": "60s"}));
        ops.push(json!({"op": "delete", "key": "nobody", "name": "nothing"}));
        ops.push(json!({"op": "register", "key": "", "after": "1s"}));
        let lines: String = ops.iter().map(|op| op.to_string() + "\n").collect();
        client.post_lines("/v1/timers/batch", &lines).expect_status(200);

        let expiry = format!("/v1/keys/round-{round}/timers/n6");
        client.get(&expiry).expect_status(200);
        client.delete(&expiry).expect_status(200);
        client.get(&expiry).expect_status(404);
        client.put("/v1/keys/k/timers/t", r#"{"after":"-1s"}"#).expect_status(400);
    }
}
