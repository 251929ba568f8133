//! Directories that earlier versions wrote: each version opens all of them, goes on in them, and
//! refuses what a later one wrote.

use crate::{Data, change};
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use stormwheel_tests::{Server, fail_stormwheel, repository, run_stormwheel, wait_until};

/// As `tests/fixtures/make-format` wrote them.
const FORMATS: [&str; 1] = ["format-1"];

/// A copy of a directory.
fn unpacked(format: &str) -> Data {
    let data = Data::new();
    let archive = repository().join(format!("tests/fixtures/{format}/data.tar.gz"));
    let into = data.path().parent().unwrap().to_owned();
    let unpacked = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&into).status();
    assert!(unpacked.unwrap().success(), "{}", archive.display());
    data
}

/// What the script wrote.
fn check_contents(server: &Server, extra: u32) {
    let client = server.client();
    // Shards report one after another what they hold.
    wait_until("all timers to be counted", || {
        let namespace = client.get("/v1/namespaces/default").expect_status(200).json();
        let is_it = namespace["status"]["timers"]["processing"] == 40 + extra;
        is_it.then_some(()).ok_or_else(|| namespace.to_string())
    });
    let one = client.get("/v1/keys/order-7/timers/expiry").expect_status(200).json();
    assert_eq!(one["fire_at"], 4_102_444_800_000_i64, "{one}");
    assert_eq!(one["payload"]["order"], 7, "{one}");
    let outputs = client.get("/v1/outputs?limit=100").expect_status(200).text;
    let fired =
        |n: u32| outputs.lines().filter(|line| line.contains(&format!("\"due-{n}\""))).count();
    for n in 0..10 {
        assert_eq!(fired(n), 1, "due-{n} in {outputs}");
    }
    let manual = client.get("/v1/namespaces/manual").expect_status(200).json();
    assert_eq!(manual["config"]["clock"], "manual", "{manual}");
}

#[test]
fn directories_of_all_formats_are_opened_and_gone_on_with() {
    for format in FORMATS {
        let data = unpacked(format);
        let verified = run_stormwheel(&["log", "verify", "--data-dir", &data.text()]);
        assert!(verified.contains("never became durable"), "it has a torn tail: {verified}");
        assert!(verified.contains("1 of 1 savepoints whole"), "{verified}");
        for round in 0..2 {
            let mut server = data.serve();
            check_contents(&server, round);
            let put = format!("/v1/keys/new-{round}/timers/t");
            server.client().put(&put, r#"{"at":4102444800000}"#).expect_status(201);
            check_contents(&server, round + 1);
            server.signal("TERM");
            assert_eq!(server.wait_for_end(), Some(0), "{}", server.log());
        }
        let verified = run_stormwheel(&["log", "verify", "--data-dir", &data.text()]);
        assert!(verified.contains("the log ends cleanly"), "{verified}");
    }
}

/// The savepoint in a directory.
fn savepoint(data: &Data) -> PathBuf {
    data.names("snapshots/savepoints").remove(0)
}

#[test]
fn savepoints_of_all_formats_are_restored() {
    for format in FORMATS {
        let data = unpacked(format);
        let from = savepoint(&data).to_str().unwrap().to_owned();
        let told = run_stormwheel(&["savepoint", "verify", &from]);
        assert!(told.contains("every byte is as it was written"), "{told}");
        let restored = Data::new();
        run_stormwheel(&["restore", "--from", &from, "--data-dir", &restored.text()]);
        run_stormwheel(&["log", "verify", "--data-dir", &restored.text()]);
        let mut server = restored.serve();
        let client = server.client();
        let one = client.get("/v1/keys/order-7/timers/expiry").expect_status(200).json();
        assert_eq!(one["payload"]["order"], 7, "{one}");
        let outputs = client.get("/v1/outputs?limit=100").expect_status(200).text;
        assert_eq!(outputs.lines().count(), 5, "{outputs}");
        server.signal("TERM");
        assert_eq!(server.wait_for_end(), Some(0), "{}", server.log());
        run_stormwheel(&["log", "verify", "--data-dir", &restored.text()]);
    }
}

/// Puts a checksum where it belongs after a change: over all before it, and what is named behind it.
fn seal(bytes: &mut [u8], at: usize, behind: Range<usize>) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..at]), &bytes[behind]);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn what_a_later_version_wrote_is_refused_with_a_word_about_it() {
    type Pick = fn(&Data) -> PathBuf;
    type Age = fn(&mut Vec<u8>);
    let cases: [(&str, Pick, Age); 5] = [
        (
            "the identity",
            |data| data.path().join("stormwheel.json"),
            |bytes| {
                let text = String::from_utf8(bytes.clone()).unwrap();
                *bytes = text.replace("\"format\": 1", "\"format\": 2").into_bytes();
            },
        ),
        (
            "a segment of a journal",
            |data| data.names("journal").remove(0),
            |bytes| {
                bytes[8] = 2;
                seal(bytes, 64, 0..0);
            },
        ),
        (
            "a segment of the output log",
            |data| data.names("outputs").remove(0),
            |bytes| {
                bytes[8] = 2;
                seal(bytes, 64, 0..0);
            },
        ),
        (
            "a manifest",
            |data| data.names("snapshots/manifests").pop().unwrap(),
            |bytes| {
                bytes[8] = 2;
                let end = bytes.len();
                seal(bytes, 16, 20..end);
            },
        ),
        (
            "an object",
            |data| data.names("snapshots/objects").pop().unwrap(),
            |bytes| {
                bytes[8] = 2;
                seal(bytes, 28, 0..0);
            },
        ),
    ];
    for (what, pick, age) in cases {
        let data = unpacked("format-1");
        let path = pick(&data);
        fs::metadata(&path).unwrap();
        change(&path, age);
        let said = data.refused(3);
        assert!(said.contains("format") && said.contains('2'), "{what}: {said}");
        assert!(said.contains("start the version that wrote it"), "{what}: {said}");
        let (code, told) = fail_stormwheel(&["doctor", "--data-dir", &data.text()]);
        assert_eq!(code, Some(3), "{what}: {told}");
    }
}

#[test]
fn a_savepoint_of_a_later_version_is_refused_with_a_word_about_it() {
    for name in ["savepoint", "objects/0000"] {
        let data = unpacked("format-1");
        let folder = savepoint(&data);
        change(&folder.join(name), |bytes| {
            bytes[8] = 2;
            let end = bytes.len();
            match name {
                "savepoint" => seal(bytes, 16, 20..end),
                _ => seal(bytes, 28, 0..0),
            }
        });
        let from = folder.to_str().unwrap();
        let new = Data::new();
        for command in [
            &["savepoint", "verify", from][..],
            &["restore", "--from", from, "--data-dir", &new.text()],
        ] {
            let (code, said) = fail_stormwheel(command);
            assert_eq!(code, Some(3), "{said}");
            assert!(said.contains("has format 2"), "{name}: {said}");
        }
        assert!(!new.path().join("stormwheel.json").exists());
    }
}
