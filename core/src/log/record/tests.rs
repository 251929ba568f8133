//! Every record comes back as it went in, and no bytes make the codec panic.

use super::*;
use proptest::prelude::*;

fn peek(bytes: &[u8]) -> Option<(NamespaceId, &[u8], &[u8])> {
    peek_operation(bytes).map(|it| (it.namespace, it.key, it.bytes))
}

fn check(op: &Op<'_>) {
    let namespace = NamespaceId(u64::MAX - 3);
    let mut bytes = Vec::new();
    encode_op(&mut bytes, namespace, op);
    let whole = bytes.len();
    bytes.extend_from_slice(b"behind");
    let (record, rest) = split_record(&bytes).expect("what was written can be read");
    assert_eq!(record, Record::Key(KeyRecord { namespace, op: *op, produced: None }));
    assert_eq!(rest, b"behind");
    assert_eq!(peek(&bytes), Some((namespace, op.key, &bytes[..whole])));
    for cut in 0..whole {
        assert_eq!(split_record(&bytes[..cut]), None, "cut at {cut} of {whole}");
        assert_eq!(peek(&bytes[..cut]), None, "cut at {cut} of {whole}");
    }
    let it = Produced { producer: "p-1", sequence: u64::MAX, index: u32::MAX };
    let mut marked = Vec::new();
    encode_produced(&mut marked, namespace, &it);
    marked.extend_from_slice(&bytes);
    let whole = marked.len() - b"behind".len();
    let (record, rest) = split_record(&marked).expect("what was written can be read");
    assert_eq!(record, Record::Key(KeyRecord { namespace, op: *op, produced: Some(it) }));
    assert_eq!(rest, b"behind");
    assert_eq!(peek(&marked), Some((namespace, op.key, &marked[..whole])));
    for cut in 0..whole {
        assert_eq!(split_record(&marked[..cut]), None, "cut at {cut} of {whole}");
        assert_eq!(peek(&marked[..cut]), None, "cut at {cut} of {whole}");
    }
}

proptest! {
    #[test]
    fn operations_come_back(
        key in prop::collection::vec(any::<u8>(), 1..40),
        name in prop::option::of("[a-z]{0,20}"),
        time in any::<i64>(),
        after in any::<bool>(),
        event in any::<bool>(),
        only in 0..5usize,
        windows in any::<(Option<i64>, Option<i64>)>(),
        payload in prop::option::of((any::<bool>(), prop::collection::vec(any::<u8>(), 0..50))),
    ) {
        let domain = if event { Domain::Event } else { Domain::Processing };
        let at = Timestamp::from_millis(time);
        let (resolution_ms, spread_ms) = windows;
        let only =
            [Only::Always, Only::Absent, Only::Present, Only::Earlier, Only::Later][only];
        let payload = payload.as_ref().map(|(binary, bytes)| {
            if *binary { Payload::Binary(bytes) } else { Payload::Json(bytes) }
        });
        let when = if after { When::After(time) } else { When::At(at) };
        let name = name.as_deref();
        let register = Register { domain, name, when, payload, resolution_ms, spread_ms, only };
        check(&Op { key: &key, action: Action::Register(register) });
        let target = match name {
            Some(name) => Target::Name(name),
            None if after => Target::FireAt(at),
            None => Target::At { at, resolution_ms, spread_ms },
        };
        check(&Op { key: &key, action: Action::Delete { domain, target } });
        let name = name.unwrap_or("timeout");
        check(&Op { key: &key, action: Action::Touch { name, domain, after_ms: time } });
        check(&Op { key: &key, action: Action::DeleteAll });
        let value = payload.unwrap_or(Payload::Json(b""));
        for input in [0, 1, 7] {
            let element = Element { timestamp: at, input, value };
            check(&Op { key: &key, action: Action::Element(element) });
        }
    }

    #[test]
    fn whatever_bytes_there_are_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = (split_record(&bytes), peek(&bytes));
    }
}

#[test]
fn ticks_and_steps_come_back() {
    let mut bytes = Vec::new();
    let namespaces = [NamespaceId(1), NamespaceId(9)];
    encode_tick(&mut bytes, Timestamp::from_millis(-5), &namespaces);
    encode_step(&mut bytes, NamespaceId(9), 7, b"{}");
    assert_eq!(peek(&bytes), None, "it is about no key");
    let (tick, rest) = split_record(&bytes).expect("a tick");
    let now = Timestamp::from_millis(-5);
    assert_eq!(tick, Record::Tick { now, namespaces: namespaces.to_vec() });
    assert_eq!(peek(rest), None);
    let (step, rest) = split_record(rest).expect("a step");
    assert_eq!(step, Record::Step { namespace: NamespaceId(9), number: 7, change: b"{}" });
    assert!(rest.is_empty());
    let mut control = Vec::new();
    encode_control(&mut control, b"[]");
    assert_eq!(peek(&control), None);
    assert_eq!(split_record(&control), Some((Record::Control(b"[]"), &[][..])));
}

#[test]
fn what_becomes_of_the_overdue_comes_back() {
    let spread = OverduePolicy::Spread { over_ms: i64::MAX };
    for policy in [OverduePolicy::Fire, spread, OverduePolicy::Shift, OverduePolicy::Drop] {
        let at = Timestamp::from_millis;
        let it = Overdue { namespace: NamespaceId(7), from: at(-5), to: at(9), policy };
        let mut bytes = Vec::new();
        encode_overdue(&mut bytes, &it);
        assert_eq!(split_record(&bytes), Some((Record::Overdue(it), &[][..])));
        assert_eq!(peek(&bytes), None);
        for cut in 0..bytes.len() {
            assert_eq!(split_record(&bytes[..cut]), None);
        }
        bytes[1] = 4;
        assert_eq!(split_record(&bytes), None, "there is no such policy");
    }
}

#[test]
fn the_drawn_head_is_where_it_is_drawn() {
    let mut bytes = Vec::new();
    let op = Op { key: b"abc", action: Action::DeleteAll };
    encode_op(&mut bytes, NamespaceId(0x0807_0605_0403_0201), &op);
    assert_eq!(bytes[0], 4);
    assert_eq!(bytes[2..4], [3, 0]);
    assert_eq!(bytes[8..16], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(&bytes[24..], b"abc");
}
