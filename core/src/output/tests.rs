//! Output records, there and back.

use super::*;

#[test]
fn records_come_back_as_they_went_in() {
    let namespace = NamespaceId(7);
    let id = |ordinal| OutputId {
        namespace,
        lane: 3,
        position: u64::MAX - 1,
        key_hash: 0xdead_beef,
        ordinal,
    };
    let key = [b'k'; 1_024];
    let records = [
        OutputRecord {
            id: id(0),
            key: &key,
            name: Some("expiry"),
            domain: Domain::Event,
            fire_at: Timestamp::MIN,
            due_by: Timestamp::MAX,
            payload: Some(Payload::Json(b"{\"n\":1}")),
            kind: OutputKind::Fire,
        },
        OutputRecord {
            id: id(1),
            key: b"\xff",
            name: None,
            domain: Domain::Processing,
            fire_at: Timestamp::from_millis(-5),
            due_by: Timestamp::from_millis(10),
            payload: Some(Payload::Binary(b"")),
            kind: OutputKind::Fire,
        },
        OutputRecord {
            id: id(2),
            key: b"z",
            name: Some(""),
            domain: Domain::Processing,
            fire_at: Timestamp::from_millis(0),
            due_by: Timestamp::from_millis(0),
            payload: None,
            kind: OutputKind::Fire,
        },
    ];
    let mut writer = OutputWriter::default();
    for record in &records {
        writer.push(record);
    }
    let block = writer.finish(namespace, 3);
    assert!(writer.is_empty());
    assert_eq!(block.count, 3);
    assert_eq!(block.iter().collect::<Vec<_>>(), records);
    assert_eq!(records[1].lateness_ms(), 15);
    assert_eq!(id(2).to_string(), "7-3-fffffffffffffffe-00000000deadbeef-2");

    let read = |count, bytes: &[u8]| OutputBytes::from_bytes(namespace, 3, count, bytes.into());
    let bytes = block.as_bytes().to_vec();
    assert_eq!(read(3, &bytes).unwrap().iter().collect::<Vec<_>>(), records);
    for cut in 0..bytes.len() {
        assert!(read(3, &bytes[..cut]).is_none(), "cut at {cut}");
    }
    for count in [0, 2, 4, u32::MAX] {
        assert!(read(count, &bytes).is_none(), "{count} are not there");
    }
    // Whatever the bits say: either it is refused, or it can be read to its end.
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Some(block) = read(3, &bytes) {
            assert_eq!(block.iter().count(), 3);
        }
    }

    let counts = |bytes_max| block.pieces(bytes_max).map(|(count, _)| count).collect::<Vec<_>>();
    assert_eq!(counts(0), [1, 1, 1]);
    assert_eq!(counts(200), [1, 2]);
    assert_eq!(counts(usize::MAX), [3]);
    let kept = block.retain(|record| record.id.ordinal != 1).unwrap();
    assert_eq!(kept.count, 2);
    assert_eq!(kept.iter().collect::<Vec<_>>(), [records[0], records[2]]);
    assert!(kept.retain(|_| false).is_none());
}

#[test]
fn values_come_back_beside_fires() {
    let namespace = NamespaceId(7);
    let id = |ordinal| OutputId { namespace, lane: 3, position: 1, key_hash: 2, ordinal };
    let at = Timestamp::from_millis;
    let value = |ordinal, tag, timestamp, domain| OutputRecord {
        id: id(ordinal),
        key: b"k",
        name: None,
        domain,
        fire_at: at(5),
        due_by: at(5),
        payload: Some(Payload::Json(b"[1]")),
        kind: OutputKind::Value { tag, timestamp },
    };
    let records = [
        value(0, None, Some(at(5)), Domain::Event),
        value(1, Some("late"), Some(Timestamp::MIN), Domain::Event),
        value(2, None, None, Domain::Processing),
        OutputRecord { payload: Some(Payload::Binary(b"")), ..value(3, None, None, Domain::Event) },
        OutputRecord {
            name: Some("late"),
            due_by: at(9),
            kind: OutputKind::Fire,
            ..value(4, None, None, Domain::Processing)
        },
    ];
    let mut writer = OutputWriter::default();
    for record in &records {
        writer.push(record);
    }
    let block = writer.finish(namespace, 3);
    assert_eq!(block.iter().collect::<Vec<_>>(), records);
    assert_eq!(block.waited_for().count(), 2, "a value waits for its timer as a fire does");
    // A value without a payload, and a fire without a time, are none.
    for (record, flags) in [(0, FLAG_EVENT | FLAG_VALUE), (4, FLAG_PAYLOAD | FLAG_TIMELESS)] {
        let mut bytes: Vec<u8> = block.pieces(0).nth(record).map(|(_, it)| it.to_vec()).unwrap();
        assert!(OutputBytes::from_bytes(namespace, 3, 1, bytes.clone().into()).is_some());
        bytes[44] = flags;
        assert!(OutputBytes::from_bytes(namespace, 3, 1, bytes.into()).is_none());
    }
}
