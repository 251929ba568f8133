//! A disk that fills up, empties, and goes on: writes are refused with a reason, reads go on,
//! nothing that was acknowledged is lost, and room is found without a restart.

use crate::folder::{Folder, Mounted};
use crate::server::{Durable, Starter};
use crate::worker::Manners;
use crate::world::{End, LIVE, World};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use stormwheel_tests::{Client, wait_until};

/// The whole file system.
const DISK_BYTES: u64 = 96 << 20;
/// Where no file system can be mounted: the bound of the data directory.
const QUOTA: &str = "max_disk_bytes=40MiB";
/// Loads until the disk must be full.
const LOADS_MAX: usize = 400;
/// The service finds the room again within five seconds; a slow machine gets more.
const BACK_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn a_full_disk_loses_nothing_and_is_left_behind() {
    match Mounted::small(DISK_BYTES) {
        Some(disk) => on_a_small_disk(&disk),
        None => with_a_quota(),
    }
}

fn manners() -> Manners {
    Manners { keys: 60, is_producer: true, mixes_acks: true, checks_acks: true }
}

fn start(folder: &Path, more: &[&str]) -> (Starter, Durable) {
    let mut args = vec!["--set", "shards=2"];
    args.extend(["--set", "segment_bytes=4MiB", "--set", "checkpoint.over=1s"]);
    args.extend(more);
    let starter = Starter::new(folder, &args);
    let server = starter.start(&[]);
    (starter, server)
}

fn on_a_small_disk(disk: &Mounted) {
    let mut world = World::new(11, 3, manners());
    let (starter, mut server) = start(&disk.path().join("data"), &[]);
    world.set_up(&server.client());
    world.load(&mut server, 100, End::Stop);
    world.verify(&server.client());

    disk.fill();
    load_until_refused(&mut world, &mut server);
    check_full(&server.client());
    disk.empty();
    check_back(&server.client());
    world.load(&mut server, 100, End::Stop);
    world.verify(&server.client());

    // A crash on the full disk; it starts on the full disk, too, and finds room by itself.
    disk.fill();
    load_until_refused(&mut world, &mut server);
    world.load(&mut server, 20, End::Kill);
    disk.fill();
    server = starter.start(&[]);
    load_until_refused(&mut world, &mut server);
    check_full(&server.client());
    disk.empty();
    check_back(&server.client());
    world.verify(&server.client());
    world.load(&mut server, 100, End::Stop);
    world.verify(&server.client());
    world.audit_all(&server.client());
}

/// The same by the bound that the data directory has: a later start allows more.
fn with_a_quota() {
    let folder = Folder::new();
    let mut world = World::new(11, 3, manners());
    let (starter, mut server) = start(folder.path(), &["--set", QUOTA]);
    world.set_up(&server.client());
    load_until_refused(&mut world, &mut server);
    check_full(&server.client());
    world.load(&mut server, 20, End::Kill);
    server = starter.start(&[]);
    load_until_refused(&mut world, &mut server);
    check_full(&server.client());
    world.load(&mut server, 20, End::Kill);
    server = starter.start(&["--set", "max_disk_bytes=1GiB"]);
    check_back(&server.client());
    world.verify(&server.client());
    world.load(&mut server, 100, End::Stop);
    world.verify(&server.client());
    world.audit_all(&server.client());
}

fn load_until_refused(world: &mut World, server: &mut Durable) {
    let refused = |world: &World| world.shared.refused.load(Ordering::SeqCst);
    let before = refused(world);
    for _ in 0..LOADS_MAX {
        world.load(server, 50, End::Stop);
        if refused(world) > before {
            return;
        }
    }
    panic!("nothing was refused: {}", world.told());
}

/// What a full disk looks like from outside.
fn check_full(client: &Client) {
    let base = format!("/v1/namespaces/{LIVE}");
    let refused = wait_until("a write to be refused", || {
        let answer = client.put(&format!("{base}/keys/probe/timers/t"), r#"{"after":"1h"}"#);
        if answer.status == 507 { Ok(answer) } else { Err(answer.text) }
    });
    assert!(refused.header("retry-after").parse::<u64>().is_ok(), "{:?}", refused.headers);
    let problem = refused.json();
    assert_eq!(problem["type"], "/problems/disk-full", "{problem}");
    assert!(problem["retry_after_ms"].is_u64(), "{problem}");
    for path in ["/keys/probe/timers", "/timers?limit=10", "/outputs?limit=10", "/watermark", ""] {
        client.get(&format!("{base}{path}")).expect_status(200);
    }
    client.get("/livez").expect_status(200);
    let ready = client.get("/readyz?verbose=true").expect_status(200).json();
    assert_eq!(ready["status"], "degraded", "{ready}");
}

/// There is room: writes are taken again without anybody's help.
fn check_back(client: &Client) {
    let emptied = now();
    let path = format!("/v1/namespaces/{LIVE}/keys/probe/timers/t");
    wait_until("a write to be taken", || {
        let answer = client.put(&path, r#"{"after":"1h"}"#);
        if matches!(answer.status, 200 | 201) { Ok(()) } else { Err(answer.text) }
    });
    // A small write finds room in what is there; that there is room for more shows a moment later.
    wait_until("the storage to be well", || {
        let ready = client.get("/readyz?verbose=true").expect_status(200).json();
        if ready["status"] == "degraded" { Err(ready.to_string()) } else { Ok(()) }
    });
    let took = emptied.elapsed();
    assert!(took < BACK_WITHIN, "it took {took:?}");
    // It was no part of the ledger.
    wait_until("the probe to go", || {
        let answer = client.delete(&path);
        if answer.status == 200 { Ok(()) } else { Err(answer.text) }
    });
}

#[allow(clippy::disallowed_methods, reason = "how long the room takes to be found is measured")]
fn now() -> Instant {
    Instant::now()
}
