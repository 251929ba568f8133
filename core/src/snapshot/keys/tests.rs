//! Partitions against a map: what was written can be read, whatever else cannot.

use super::*;
use crate::key_group::xxh3_64;
use crate::keyed::{Cell, KeyTable};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Keys = BTreeMap<Vec<u8>, (Option<Vec<u8>>, Vec<Timer>)>;
type Timer = (Domain, i64, Option<String>, Option<(bool, Vec<u8>)>);

/// Writes keys with their timers; a timer whose name or time is there already is left out.
fn write(keys: &Keys, producers: &[Producer]) -> Vec<u8> {
    let (mut pools, mut table) = (Pools::default(), KeyTable::default());
    let mut out = Vec::new();
    encode_head(&mut out, producers, keys.len() as u64);
    for (key, (state, timers)) in keys {
        let slot = pools.add(&mut table, key, xxh3_64(key));
        if let Some(state) = state {
            pools.set_state(slot, state);
        }
        for (domain, time, name, payload) in timers {
            let payload = payload.as_ref().map(|(is_binary, bytes)| match is_binary {
                true => Payload::Binary(bytes),
                false => Payload::Json(bytes),
            });
            let link = pools.store_blob(name.as_deref(), payload);
            let name = NameClass::of(name.as_deref());
            let cell = Cell { time: Timestamp::from_millis(*time), name, link };
            pools.insert(slot, *domain, cell);
        }
        encode_slot(&mut out, &pools, slot);
    }
    out
}

fn read(bytes: &[u8]) -> Result<(Keys, Vec<Producer>), SnapshotFault> {
    let mut reader = PartitionReader::open("partition", bytes)?;
    let mut keys = BTreeMap::new();
    while let Some((key, count)) = reader.next_key()? {
        let state = reader.state().map(<[u8]>::to_vec);
        let mut timers = Vec::new();
        for _ in 0..count {
            let TimerEntry { domain, time, name, payload } = reader.next_timer()?;
            let payload = payload
                .map(|payload| (matches!(payload, Payload::Binary(_)), payload.bytes().to_vec()));
            timers.push((domain, time.as_millis(), name.map(str::to_owned), payload));
        }
        keys.insert(key.to_vec(), (state, timers));
    }
    Ok((keys, reader.producers().to_vec()))
}

/// In the order of firing, without two of one identity.
fn tidy(timers: Vec<Timer>) -> Vec<Timer> {
    let mut by_identity = BTreeMap::new();
    for timer in timers {
        let (domain, time, name, _) = &timer;
        let identity = (*domain, name.clone(), if name.is_some() { 0 } else { *time });
        by_identity.insert(identity, timer);
    }
    let mut timers: Vec<Timer> = by_identity.into_values().collect();
    timers.sort();
    timers
}

fn timers() -> impl Strategy<Value = Vec<Timer>> {
    let domain = prop_oneof![Just(Domain::Event), Just(Domain::Processing)];
    let name = prop_oneof![
        Just(None),
        Just(Some(DEFAULT_TIMER_NAME.to_owned())),
        "[a-zä]{1,20}".prop_map(Some)
    ];
    let time = prop_oneof![any::<i64>(), 0..10i64, Just(i64::MIN), Just(i64::MAX)];
    let payload = prop::option::of((any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)));
    prop::collection::vec((domain, time, name, payload), 0..24).prop_map(tidy)
}

/// A state or timers, or both.
fn held() -> impl Strategy<Value = (Option<Vec<u8>>, Vec<Timer>)> {
    let state = prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
    (state, timers()).prop_map(|(state, timers)| {
        let state = if timers.is_empty() { Some(state.unwrap_or_default()) } else { state };
        (state, timers)
    })
}

proptest! {
    #[test]
    fn partitions_come_back(
        keys in prop::collection::btree_map(
            prop::collection::vec(any::<u8>(), 1..40), held(), 0..12),
        producers in prop::collection::vec(("[a-z]{1,9}", any::<u64>(), any::<u32>()), 0..4),
    ) {
        let bytes = write(&keys, &producers);
        prop_assert_eq!(read(&bytes), Ok((keys, producers)));
        for cut in 0..bytes.len() {
            prop_assert!(read(&bytes[..cut]).is_err(), "cut at {}", cut);
        }
        let mut more = bytes;
        more.push(0);
        prop_assert!(read(&more).is_err());
    }

    #[test]
    fn whatever_bytes_there_are_nothing_panics(
        mut bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0..4u8], 0..200),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        keys in prop::collection::btree_map(
            prop::collection::vec(any::<u8>(), 1..20), held(), 1..4),
    ) {
        let _ = read(&bytes);
        if let Some(version) = bytes.first_mut() {
            *version = VERSION;
        }
        let _ = read(&bytes);
        let mut bytes = write(&keys, &[("p".to_owned(), 1, 2)]);
        for (index, byte) in flips {
            *index.get_mut(&mut bytes) ^= byte;
        }
        let _ = read(&bytes);
    }
}

fn one(key: &[u8], state: Option<&[u8]>, timers: Vec<Timer>) -> Keys {
    BTreeMap::from([(key.to_vec(), (state.map(<[u8]>::to_vec), timers))])
}

#[test]
fn keys_are_as_drawn() {
    let timer = (Domain::Event, 0x0807_0605_0403_0201, None, None);
    let bytes = write(&one(b"0123456789abcde", None, vec![timer]), &[]);
    assert_eq!(bytes, b"\x02\x00\x01\x0f\x020123456789abcde\x01\x01\x02\x03\x04\x05\x06\x07\x08");
    let payload = Some((true, b"xyz".to_vec()));
    let timer = (Domain::Processing, -1, Some("bc".to_owned()), payload);
    let keys = one(b"a", Some(b"st"), vec![timer]);
    let bytes = write(&keys, &[("p".to_owned(), 300, 7)]);
    let state = b"\x02\x01\x01p\xac\x02\x07\x01\x01\x03a\x02st";
    let timer = b"\x14\xff\xff\xff\xff\xff\xff\xff\xff\x02bc\x03xyz";
    assert_eq!(bytes, [&state[..], timer].concat());
    let bytes = write(&one(b"a", Some(b""), vec![]), &[]);
    assert_eq!(bytes, b"\x02\x00\x01\x01\x01a\x00");
    assert_eq!(bytes.len() - 3, KEY_ENTRY_BYTES_MIN);
}

#[test]
fn the_version_before_there_were_states_is_read() {
    let old = b"\x01\x00\x01\x01\x01a\x01\x01\x02\x03\x04\x05\x06\x07\x08";
    let timer = (Domain::Event, 0x0807_0605_0403_0201, None, None);
    let keys = one(b"a", None, vec![timer]);
    assert_eq!(read(old), Ok((keys.clone(), vec![])));
    let mut reader = PartitionReader::open("partition", old).unwrap();
    let (_, _, entry) = reader.next_entry().unwrap().unwrap();
    assert_eq!(entry, &write(&keys, &[])[3..], "an entry is one of this version");
}

#[test]
fn a_later_version_is_told_apart_from_damage() {
    let fault = read(&[3, 0, 0]).expect_err("a later version");
    assert_eq!(
        fault.to_string(),
        "partition has format 3, this version knows up to 2: start the version that wrote it, or a later one"
    );
    for version in [1, 2] {
        let fault = read(&[version, 0, 1, 1, 0, b'a']).expect_err("a key without anything");
        let SnapshotFault::Damaged { offset, .. } = fault else { panic!("{fault}") };
        assert_eq!(offset, 5);
    }
}
