//! Crowds against a server in this process, and what must be noticed.

use super::*;
use crate::bench::quick;

const MANNERS: Manners = Manners { keep: false, bar: false, give_up_ms: 20_000 };

fn crowd(namespaces: u64) -> Crowd {
    Crowd {
        namespaces,
        connections: 3,
        lead_ms: 100,
        over_ms: 300,
        seed: 7,
        prefix: "bench-7".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_is_made_filled_verified_and_removed() {
    let server = quick::start_server().await.unwrap();
    let client = Client::new(&server.local_addr().to_string()).unwrap();
    let report = run(&client, &crowd(20), MANNERS).await.unwrap();
    let text = report.to_text();
    assert!(report.is_ok(), "{text}");
    assert_eq!((report.verification.expected, report.verification.fired), (200, 200));
    assert_eq!(report.fire_lateness.count, 200);
    assert!(report.resident.fired.is_some_and(|bytes| bytes > 1 << 20), "{text}");
    assert!(report.first_fire_lateness_ms.is_some_and(|late_ms| late_ms >= 0.0), "{text}");
    assert!(text.contains("200 timers fired once each"), "{text}");
    let left = client.send(Method::GET, "/v1/namespaces", None).await.unwrap();
    let left = left.json().unwrap();
    assert_eq!(left["namespaces"].as_array().unwrap().len(), 1, "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_stand_are_left_alone() {
    let server = quick::start_server().await.unwrap();
    let client = Client::new(&server.local_addr().to_string()).unwrap();
    let path = "/v1/namespaces/bench-7-11";
    client.send(Method::PUT, path, Some("{}".to_owned())).await.unwrap();
    let failure = run(&client, &crowd(20), MANNERS).await.unwrap_err();
    assert!(failure.to_string().contains("bench-7-11 exists"), "{failure}");
    client.send(Method::GET, path, None).await.unwrap();
}

/// What is found if the namespace's outputs are these lines of its ten, by number.
fn check(lines: &[u64], expected: impl FnOnce(&mut Verdict)) {
    let mut home = crowd(1).homes().remove(0);
    let (mut head, mut body) = (Vec::new(), Vec::new());
    let begin_ms = wall_ms() - 1_000;
    home.due = DueTimes::new(&home.plan, begin_ms);
    home.write(Phase::Register(begin_ms), "h", &mut head, &mut body);
    assert_eq!(body.split(|byte| *byte == b'\n').count(), 11);
    let created = "{\"index\":0,\"result\":\"created\"}\n".repeat(10);
    let mut lateness_ms = latency_histogram();
    let register = Phase::Register(0);
    assert_eq!(home.enter(register, 200, created.as_bytes(), &mut lateness_ms), Ok(true));
    let line = |number: &u64| {
        let at = home.due.due_ms((*number).min(9));
        format!("{{\"key\":\"timer-{number:09}\",\"fire_at\":{at},\"fired_at\":{at}}}\n")
    };
    let outputs: String = lines.iter().map(line).collect::<Vec<_>>().concat();
    let long_ago = Phase::Read(0);
    assert_eq!(home.enter(long_ago, 200, outputs.as_bytes(), &mut lateness_ms), Ok(true));
    let soon = Phase::Read(i64::MAX);
    let again = home.enter(soon, 200, outputs.as_bytes(), &mut lateness_ms);
    assert_eq!(again, Ok(lines.len() >= 10), "what is missing is looked for again");
    let mut verdict = Verdict { ok: true, ..Verdict::default() };
    verdict.add("n", verify(&home.tally.promises, &home.fires));
    verdict.examples.clear();
    let mut good = Verdict { ok: true, expected: 10, fired: 10, ..Verdict::default() };
    expected(&mut good);
    assert_eq!(verdict, good);
}

#[test]
fn what_is_missing_or_repeated_is_noticed() {
    check(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], |_| {});
    check(&[0, 1, 2, 3, 4, 5, 6, 7, 8], |verdict| {
        (verdict.ok, verdict.fired, verdict.missing) = (false, 9, 1);
    });
    check(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9], |verdict| {
        (verdict.ok, verdict.duplicates) = (false, 1);
    });
    check(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], |verdict| {
        (verdict.ok, verdict.unknown) = (false, 1);
    });
}
