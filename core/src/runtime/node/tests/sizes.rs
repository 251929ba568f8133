//! The largest things that there are, in the smallest files.

use super::*;
use crate::limits::{IDENTIFIER_BYTES_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::op::Payload;
use crate::runtime::FaultKind;

impl World {
    fn allow_large_payloads(&mut self) {
        let mut config = NamespaceConfig::default();
        config.limits.payload_bytes = PAYLOAD_BYTES_MAX;
        let put = Command::Put { config, expected_version: None };
        self.node().engine().command("default", put, false, Box::new(drop));
        self.settle();
    }

    /// Registers a timer that is as long as can be beside its payload; what it is answered.
    fn register_long(&mut self, n: u8, payload_bytes: usize) -> Result<ResultKind, Rejection> {
        let engine = self.node().engine().clone();
        let namespace = engine.namespace("default").expect("it is always there");
        let mut batch = engine.batch(&namespace);
        batch.producer(&"p".repeat(IDENTIFIER_BYTES_MAX), u64::from(n) + 1);
        let (name, payload) = ("n".repeat(NAME_BYTES_MAX), vec![b'x'; payload_bytes]);
        let register = Register {
            domain: Domain::Processing,
            name: Some(&name),
            when: When::At(Timestamp::from_millis(START_MS + 1_000)),
            payload: Some(Payload::Binary(&payload)),
            resolution_ms: Some(1),
            spread_ms: Some(1),
            only: Only::Always,
        };
        let key = vec![b'a' + n; KEY_BYTES_MAX];
        batch.push(&Op { key: &key, action: Action::Register(register) })?;
        let answer = Arc::new(Mutex::new(Vec::new()));
        let mine = Arc::clone(&answer);
        engine.submit(
            batch,
            Box::new(move |outcomes: Vec<Outcome>| *mine.lock().unwrap() = outcomes),
        );
        self.settle();
        let outcome = answer.lock().unwrap().pop().expect("it is answered");
        outcome.map(|it| it.result)
    }
}

#[test]
fn what_no_file_could_hold_is_refused_at_the_door() {
    for segment_bytes in [16 << 10, 64 << 10, 4 << 20] {
        let mut world = World::of_segments(1, segment_bytes);
        world.allow_large_payloads();
        let limit = match world.register_long(0, PAYLOAD_BYTES_MAX + 1) {
            Err(Rejection::PayloadTooLarge { limit, .. }) => limit,
            outcome => panic!("it is too large for any: {outcome:?}"),
        };
        assert_eq!(limit == PAYLOAD_BYTES_MAX, segment_bytes == 4 << 20);
        let too_large = Err(Rejection::PayloadTooLarge { limit, actual: limit + 1 });
        assert_eq!(world.register_long(1, limit + 1), too_large);
        for n in 2..5 {
            assert_eq!(world.register_long(n, limit), Ok(ResultKind::Created));
        }
        world.crash();
        assert_eq!(world.pending(), 3);
        world.pass(2_000);
        world.settle();
        assert_eq!(world.outputs(None).len(), 3);
        world.crash();
        assert_eq!(world.outputs(None).len(), 3);
    }
}

#[test]
fn files_that_cannot_be_are_refused() {
    for segment_bytes in [0, 4 << 10, (16 << 10) - 8, (64 << 10) + 4] {
        let mut world = World::closed(MemoryDisk::default(), Arc::default(), Arc::default(), 1);
        world.segment_bytes = segment_bytes;
        let fault = world.try_open().err().expect("it is refused");
        assert_eq!(fault.kind(), FaultKind::Options, "{fault}");
        assert!(fault.to_string().contains(&segment_bytes.to_string()), "{fault}");
        assert!(world.disk.names().is_empty());
    }
}
