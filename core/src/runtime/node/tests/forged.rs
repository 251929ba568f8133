//! Payloads that are drawn to look like blocks of the log, behind a block that a crash tore in two.
//!
//! Under the salt of the directory such a block is a proof that the torn one was durable, and the
//! start stops. Nobody outside knows the salt: what they draw is nothing.

use super::*;
use crate::log::block::{self, BlockHeader, BlockKind, BlockSalt, OUTPUT_JOURNAL};
use crate::log::segment::SEGMENT_HEADER_BYTES;
use crate::op::Payload;
use crate::ports::Disk;
use crate::runtime::FaultKind;
use crate::storage::Identity;

/// Whole blocks of the journal and of the output log that say that all before them was durable, each
/// at every place that it may come to stand at.
fn forged(salt: BlockSalt) -> Vec<u8> {
    let mut payload = Vec::new();
    for (kind, journal) in [(BlockKind::Records, 0), (BlockKind::Outputs, OUTPUT_JOURNAL)] {
        let header = BlockHeader {
            kind,
            lane: 1,
            length: 0,
            count: 1,
            epoch: 1,
            journal,
            engine_version: 1,
            sequence: 1_000,
            durable_to: 999,
            first: 1_000,
            now_ms: START_MS,
            chain: 0,
            crc: 0,
        };
        for _ in 0..block::BLOCK_ALIGN {
            block::encode(&mut payload, salt, &header, &[1; 32]);
            payload.push(b'.');
        }
    }
    payload
}

/// A timer with such a payload, and the salt of the world that it was put into.
fn world(at: i64, salt: impl FnOnce(BlockSalt) -> BlockSalt) -> (World, BlockSalt) {
    let mut world = World::new(1);
    let identity = Identity::read(&world.disk).expect("it can be read").expect("it is there");
    let own = BlockSalt::of(&identity.directory_id);
    let payload = forged(salt(own));
    let engine = world.node().engine().clone();
    let namespace = engine.namespace("default").expect("it is always there");
    let mut batch = engine.batch(&namespace);
    let register = Register {
        domain: Domain::Processing,
        name: None,
        when: When::At(Timestamp::from_millis(START_MS + at)),
        payload: Some(Payload::Binary(&payload)),
        resolution_ms: None,
        spread_ms: None,
        only: Only::Always,
    };
    batch.push(&Op { key: b"key", action: Action::Register(register) }).expect("it is well-formed");
    engine.submit(batch, Box::new(drop));
    world.settle();
    world.pass(1_000);
    world.settle();
    world.node = None;
    world.disk = world.disk.crash(None);
    (world, own)
}

/// Leaves of a file what stands before the end of the block with the payload, and tears that block.
fn tear(world: &World, name: &str, salt: BlockSalt) {
    let mut bytes = world.disk.bytes(name);
    let mut at = SEGMENT_HEADER_BYTES;
    let end = loop {
        let (header, body) = block::decode(salt, &bytes[at..]).expect("the block is still to come");
        at += header.size();
        if body.len() > 1_000 {
            break at;
        }
    };
    bytes[end - 8..].fill(0);
    world.disk.remove(name).expect("it is there");
    world.disk.put(name, bytes);
}

fn check(at: i64, name: &str) {
    let (mut world, salt) = world(at, |_| BlockSalt::of(&[0x5a; 16]));
    tear(&world, name, salt);
    world.open();
    // Somebody who knew the id could stop the start.
    let (world, salt) = self::world(at, |own| own);
    tear(&world, name, salt);
    let fault = world.try_open().err().expect("it is refused");
    assert_eq!(fault.kind(), FaultKind::Corruption, "{fault}");
    assert!(fault.to_string().contains(name), "{fault}");
}

#[test]
fn a_block_in_a_payload_makes_no_damage_of_a_torn_journal() {
    check(9_000, "journal/00000001-000-0000000001.log");
}

#[test]
fn a_block_in_a_payload_makes_no_damage_of_a_torn_output_log() {
    check(1_000, "outputs/0000000001.out");
}
