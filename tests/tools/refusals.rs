//! Starts on directories that cannot be used: the exit code, the words, and that nothing is touched.

use crate::{Data, change};
use std::fs;
use std::path::PathBuf;
use stormwheel_tests::refuse_start;

fn check(data: &Data, code: i32, parts: &[&str]) {
    let said = data.refused(code);
    for part in parts {
        assert!(said.contains(part), "{part} is not said in: {said}");
    }
    if code == 4 {
        let place = data.text();
        assert!(said.contains(&format!("`stormwheel log verify --data-dir {place}`")), "{said}");
        assert!(said.contains(&format!("`stormwheel doctor --data-dir {place}`")), "{said}");
    }
}

#[test]
fn a_directory_in_use() {
    let data = Data::new();
    let server = data.serve();
    let pid = fs::read_to_string(data.path().join("LOCK")).unwrap();
    let (code, said) = refuse_start(&["--data-dir", &data.text()]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(&format!("in use by process {}", pid.trim())), "{said}");
    drop(server);
    data.serve();
}

#[test]
fn a_directory_of_somebody_else() {
    let data = Data::new();
    fs::create_dir_all(data.path().join("photos")).unwrap();
    check(&data, 3, &["not Stormwheel's (photos)", "empty directory"]);
    assert!(!data.path().join("LOCK").exists(), "not even a lock is left");
}

#[test]
fn a_path_that_is_no_folder() {
    let data = Data::new();
    fs::write(data.path(), "").unwrap();
    let (code, said) = refuse_start(&["--data-dir", &data.text()]);
    assert_eq!(code, Some(3), "{said}");
}

#[test]
fn another_layout() {
    let data = Data::written();
    change(&data.path().join("stormwheel.json"), |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replace("\"max_parallelism\": 8", "\"max_parallelism\": 16").into_bytes();
    });
    check(&data, 3, &["max_parallelism = 16", "8 was asked for", "leave max_parallelism out"]);
}

#[test]
fn what_is_missing() {
    type Remove = fn(&Data) -> Vec<PathBuf>;
    let cases: [(Remove, i32, &[&str]); 4] = [
        (|data| vec![data.path().join("stormwheel.json")], 3, &["stormwheel.json is missing"]),
        (
            |data| data.names("journal"),
            4,
            &["journals of run 1", "manifests/", "copy all of it again"],
        ),
        (|data| data.names("journal").split_off(1), 4, &["journal/00000001-001-0000000001.log"]),
        (|data| data.names("snapshots/objects"), 4, &["objects/", "it is missing"]),
    ];
    for (remove, code, parts) in cases {
        let data = Data::written();
        for path in remove(&data) {
            fs::remove_file(path).unwrap();
        }
        check(&data, code, parts);
    }
    let data = Data::with_savepoint();
    fs::remove_dir_all(data.path().join("outputs")).unwrap();
    check(&data, 4, &["the output log (outputs/) is missing", "when record"]);
}

#[test]
fn what_is_damaged() {
    let data = Data::written();
    let segment = data.names("journal").remove(0);
    change(&segment, |bytes| bytes[4_096 + 70] ^= 1);
    check(&data, 4, &["is damaged at offset 4096", "lane", "position"]);
    for folder in ["snapshots/manifests", "snapshots/objects"] {
        let data = Data::written();
        for path in data.names(folder) {
            change(&path, |bytes| bytes[40] ^= 1);
        }
        check(&data, 4, &["damaged at byte"]);
    }
}
