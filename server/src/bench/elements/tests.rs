//! Elements against a server in this process, and what must be noticed.

use super::*;
use crate::bench::{Bench, quick};
use http::Method;

const MANNERS: Manners = Manners { keep: false, bar: false, give_up_ms: 20_000 };

fn plan(format: Format) -> Elements {
    Elements {
        format,
        rounds: 3,
        keys: 70,
        batch: 10,
        connections: 2,
        namespace: "bench-7".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn elements_of_both_formats_are_sent_and_verified() {
    let server = quick::start_server().await.unwrap();
    let client = Client::new(&server.local_addr().to_string()).unwrap();
    for format in [Format::Ndjson, Format::Arrow] {
        let report = run(&client, &plan(format), MANNERS).await.unwrap();
        let text = report.to_text();
        assert!(report.is_ok(), "{text}");
        assert_eq!((report.requests, report.elements), (21, 210), "{text}");
        assert_eq!(report.results, BTreeMap::from([("processed".to_owned(), 210)]));
        assert_eq!((report.verification.expected, report.verification.came), (70, 70));
        assert!(text.contains("the first element of each of 70 keys came out once"), "{text}");
        let gone = client.send(Method::GET, "/v1/namespaces/bench-7", None).await;
        assert_eq!(gone.unwrap_err().status(), Some(404), "the namespace is removed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_stands_is_left_alone() {
    let server = quick::start_server().await.unwrap();
    let client = Client::new(&server.local_addr().to_string()).unwrap();
    let path = "/v1/namespaces/bench-7";
    client.send(Method::PUT, path, Some("{}".to_owned())).await.unwrap();
    let failure = run(&client, &plan(Format::Ndjson), MANNERS).await.unwrap_err();
    assert!(failure.to_string().contains("bench-7 exists"), "{failure}");
    client.send(Method::GET, path, None).await.unwrap();
}

#[test]
fn every_element_is_sent_once_and_a_key_on_one_connection_only() {
    for (keys, batch, connections) in [(70, 10, 2), (7, 10, 3), (103, 10, 4), (1, 1, 1)] {
        let plan = Elements { keys, batch, connections, ..plan(Format::Ndjson) };
        let mut numbers = Vec::new();
        let mut connection_of = BTreeMap::new();
        for connection in 0..connections {
            let before = numbers.len();
            numbers.extend(plan.batches(connection).flatten());
            for number in &numbers[before..] {
                let owner = *connection_of.entry(number % keys).or_insert(connection);
                assert_eq!(owner, connection, "{plan:?}");
            }
            assert!(numbers[before..].is_sorted(), "rounds come one after the other");
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..plan.count()).collect::<Vec<_>>(), "{plan:?}");
    }
}

/// The verdict over lines of a run of three keys.
fn check(lines: &[&str], expected: impl FnOnce(&mut seen::ElementsVerdict)) {
    let mut seen = Seen::new(3);
    for line in lines {
        seen.enter(line.as_bytes());
    }
    let mut verdict = seen.verdict();
    assert_eq!(verdict.examples.is_empty(), verdict.ok);
    verdict.examples.clear();
    let mut good = seen::ElementsVerdict { ok: true, expected: 3, came: 3, ..Default::default() };
    expected(&mut good);
    assert_eq!(verdict, good);
}

#[test]
fn what_is_missing_repeated_or_wrong_is_noticed() {
    let line = |key: u64, n: i64| {
        format!(
            r#"{{"id":"a","cursor":9,"key":"timer-{key:09}","timestamp":5,"value":{{"n":{n}}}}}"#
        )
    };
    let [first, second, third] = [line(0, 0), line(1, 1), line(2, 2)];
    check(&[&first, &second, &third], |_| {});
    check(&[&first, &second], |verdict| {
        (verdict.ok, verdict.came, verdict.missing) = (false, 2, 1);
    });
    check(&[&first, &second, &third, &line(1, 4)], |verdict| {
        (verdict.ok, verdict.repeated) = (false, 1);
    });
    check(&[&first, &second, &line(2, 5)], |verdict| (verdict.ok, verdict.wrong) = (false, 1));
    let late = third.replace("\"cursor\"", "\"tag\":\"late\",\"cursor\"");
    for stranger in [&late, &line(3, 3), "garbage", r#"{"error":{"status":410}}"#] {
        check(&[&first, &second, &third, stranger], |verdict| {
            (verdict.ok, verdict.unknown) = (false, 1);
        });
    }
}

#[test]
fn what_was_refused_for_load_is_sent_again_and_other_failures_are_told() {
    let enter = |status: u16, body: &str| {
        let mut sent = Sent::new();
        let again = sent.enter(status, body.as_bytes(), 3);
        (again, sent.errors.keys().copied().collect::<Vec<_>>(), sent.results)
    };
    let processed = |count| BTreeMap::from([("processed".to_owned(), count)]);
    let taken = r#"{"rows":3,"results":{"processed":3},"failed":0,"errors":[]}"#;
    assert_eq!(enter(200, taken), (Ok(None), vec![], processed(3)));
    let full = r#"{"rows":3,"results":{"processed":2},"failed":1,"errors":
        [{"index":2,"error":{"status":429,"title":"full","retry_after_ms":7}}]}"#;
    assert_eq!(enter(200, full), (Ok(Some(7)), vec![429], processed(2)));
    let wrong = full.replace("429", "422");
    assert_eq!(enter(200, &wrong), (Ok(None), vec![422], processed(2)));
    let none = r#"{"status":429,"title":"full","retry_after_ms":9}"#;
    assert_eq!(enter(429, none), (Ok(Some(9)), vec![429], BTreeMap::new()));
    assert_eq!(enter(400, none), (Ok(None), vec![400], BTreeMap::new()));
    let lost = taken.replace("\"processed\":3", "\"processed\":2");
    assert!(enter(200, &lost).0.is_err(), "an element of which nothing is said");
    assert!(enter(200, "hello").0.is_err());
}

#[test]
fn both_formats_say_the_same() {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    let mut body = Body::new(&plan(Format::Ndjson), "h:1", 5);
    body.write(69..71).unwrap();
    let expected = "{\"key\":\"timer-000000069\",\"timestamp\":5,\"value\":{\"n\":69}}\n\
                    {\"key\":\"timer-000000000\",\"timestamp\":5,\"value\":{\"n\":70}}\n";
    assert_eq!(std::str::from_utf8(body.request().1).unwrap(), expected);
    let mut body = Body::new(&plan(Format::Arrow), "h:1", 5);
    body.write(69..71).unwrap();
    let mut batches = arrow_ipc::reader::StreamReader::try_new(body.request().1, None).unwrap();
    let batch = batches.next().unwrap().unwrap();
    let keys = batch.column_by_name("key").unwrap().as_binary::<i32>();
    assert_eq!((keys.value(0), keys.value(1)), (&b"timer-000000069"[..], &b"timer-000000000"[..]));
    let numbers = batch.column_by_name("n").unwrap().as_primitive::<Int64Type>();
    assert_eq!((numbers.value(0), numbers.value(1)), (69, 70));
    assert_eq!(batch.column_by_name("timestamp").unwrap().as_primitive::<Int64Type>().value(1), 5);
}

/// What these flags settle, or why not.
fn settled(flags: &str) -> Result<Elements, String> {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        bench: Bench,
    }
    let flags = ["bench", "--workload", "elements"].into_iter().chain(flags.split_whitespace());
    let line: Line = clap::Parser::try_parse_from(flags).map_err(|error| error.to_string())?;
    let plan = line.bench.elements(7).map_err(|failure| failure.to_string())?;
    plan.ok_or_else(|| "another workload".to_owned())
}

#[test]
fn flags_settle_whole_rounds_and_what_means_nothing_is_refused() {
    let plan = settled("--format arrow --timers 1000 --keys 300").unwrap();
    assert_eq!((plan.keys, plan.rounds, plan.count()), (300, 3, 900));
    assert_eq!((plan.format, plan.batch, plan.connections), (Format::Arrow, 5_000, 2));
    assert_eq!(plan.namespace, "bench-7");
    let plan = settled("--closed").unwrap();
    assert_eq!((plan.keys, plan.count()), (100_000, 1_000_000));
    for (flags, words) in [
        ("--rate 5", "--rate does not go with --workload elements"),
        ("--duration 5s", "--duration does not go with --workload elements"),
        ("--format single", "--format ndjson and arrow"),
        ("--keys 0", "--keys must be"),
        ("--timers 200000000", "--timers must be"),
    ] {
        let error = settled(flags).unwrap_err();
        assert!(error.contains(words), "{flags}: {error}");
    }
}
