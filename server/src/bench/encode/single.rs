//! One operation as one request, head and body in one piece.

use super::{key_bytes, push_decimal};
use crate::bench::due::DueTimes;
use crate::bench::plan::{Plan, Verb};

/// Writes the single requests of one namespace.
#[derive(Debug)]
pub(crate) struct SingleRequests {
    path: Vec<u8>,
    host: Vec<u8>,
    body: Vec<u8>,
}

impl SingleRequests {
    /// For one namespace of one server.
    pub(crate) fn new(namespace: &str, authority: &str) -> Self {
        Self {
            path: format!("/v1/namespaces/{namespace}/keys/").into_bytes(),
            host: format!(" HTTP/1.1\r\nHost: {authority}\r\n").into_bytes(),
            body: Vec::with_capacity(64),
        }
    }

    /// Replaces `out` by the request for one timer.
    pub(crate) fn write(
        &mut self,
        out: &mut Vec<u8>,
        plan: &Plan,
        number: u64,
        verb: Verb,
        due: &DueTimes,
    ) {
        let (key, name) = plan.identity(number);
        let name = plan.is_named().then_some(name);
        let key = key_bytes(key);
        self.body.clear();
        match verb {
            Verb::Register => {
                self.push_body(b"{\"at\":", due.due_ms(number), b"}");
                let method = if name.is_some() { "PUT " } else { "POST " };
                self.write_register(out, method, &key, name);
            }
            Verb::Touch => {
                self.push_body(b"{\"after\":\"", plan.over_ms, b"ms\"}");
                self.write_target(out, "POST ", &key);
                out.extend_from_slice(b"/touch");
            }
            Verb::Delete => {
                self.write_target(out, "DELETE ", &key);
                push_timer(out, name);
                if name.is_none() {
                    out.extend_from_slice(b"?at=");
                    push_decimal(out, due.due_ms(number));
                }
            }
        }
        self.finish(out);
    }

    /// Replaces `out` by the registration of an unnamed timer of any key that needs no escapes.
    pub(crate) fn write_unnamed(&mut self, out: &mut Vec<u8>, key: &[u8], at_ms: i64) {
        self.body.clear();
        self.push_body(b"{\"at\":", at_ms, b"}");
        self.write_register(out, "POST ", key, None);
        self.finish(out);
    }

    fn push_body(&mut self, before: &[u8], value: i64, after: &[u8]) {
        self.body.extend_from_slice(before);
        push_decimal(&mut self.body, value);
        self.body.extend_from_slice(after);
    }

    fn write_register(&self, out: &mut Vec<u8>, method: &str, key: &[u8], name: Option<u64>) {
        self.write_target(out, method, key);
        push_timer(out, name);
    }

    fn write_target(&self, out: &mut Vec<u8>, method: &str, key: &[u8]) {
        out.clear();
        out.extend_from_slice(method.as_bytes());
        out.extend_from_slice(&self.path);
        out.extend_from_slice(key);
    }

    fn finish(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.host);
        if !self.body.is_empty() {
            out.extend_from_slice(b"Content-Type: application/json\r\nContent-Length: ");
            push_decimal(out, self.body.len() as i64);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
    }
}

fn push_timer(out: &mut Vec<u8>, name: Option<u64>) {
    out.extend_from_slice(b"/timers");
    if let Some(name) = name {
        out.extend_from_slice(b"/t");
        push_decimal(out, name as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::{Workload, tests::plan};

    fn check(plan: &Plan, number: u64, verb: Verb, expected: &[&str]) {
        let due = DueTimes::new(plan, 1_767_225_600_000);
        due.note_sent(&plan.unit(0), 1_767_225_600_000);
        let mut request = Vec::new();
        SingleRequests::new("n", "h:1").write(&mut request, plan, number, verb, &due);
        let at = due.due_ms(number).to_string();
        let expected = expected.join("\r\n").replace("AT", &at);
        assert_eq!(String::from_utf8(request).unwrap(), expected);
    }

    #[test]
    fn requests_say_what_api_md_says() {
        let uniform = plan(Workload::Uniform, 9, 9, 9);
        check(
            &uniform,
            4,
            Verb::Register,
            &[
                "POST /v1/namespaces/n/keys/timer-000000004/timers HTTP/1.1",
                "Host: h:1",
                "Content-Type: application/json",
                "Content-Length: 20",
                "",
                "{\"at\":AT}",
            ],
        );
        let named = plan(Workload::Uniform, 9, 3, 9);
        check(
            &named,
            4,
            Verb::Register,
            &[
                "PUT /v1/namespaces/n/keys/timer-000000001/timers/t1 HTTP/1.1",
                "Host: h:1",
                "Content-Type: application/json",
                "Content-Length: 20",
                "",
                "{\"at\":AT}",
            ],
        );
        check(
            &uniform,
            4,
            Verb::Delete,
            &[
                "DELETE /v1/namespaces/n/keys/timer-000000004/timers?at=AT HTTP/1.1",
                "Host: h:1",
                "",
                "",
            ],
        );
        check(
            &named,
            4,
            Verb::Delete,
            &[
                "DELETE /v1/namespaces/n/keys/timer-000000001/timers/t1 HTTP/1.1",
                "Host: h:1",
                "",
                "",
            ],
        );
        check(
            &plan(Workload::Heartbeat, 9, 3, 3),
            1,
            Verb::Touch,
            &[
                "POST /v1/namespaces/n/keys/timer-000000001/touch HTTP/1.1",
                "Host: h:1",
                "Content-Type: application/json",
                "Content-Length: 18",
                "",
                "{\"after\":\"5000ms\"}",
            ],
        );
    }
}
