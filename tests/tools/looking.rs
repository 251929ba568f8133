//! `log inspect`, `log verify`, `log dump` and `doctor`: what they say, and that they change nothing.

use crate::{Data, change, files};
use serde_json::Value;
use std::fs;
use stormwheel_tests::{fail_stormwheel, run_stormwheel};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_directory_is_shown_checked_and_dumped_without_a_trace() {
    let data = Data::written();
    let before = files(&data.path());
    let dir = ["--data-dir", &data.text()];
    let run = |command: &[&str]| run_stormwheel(&[command, &dir].concat());

    let shown = run(&["log", "inspect"]);
    for part in ["8 key groups in 4 lanes", "RUN", "LANE", "manifests/", "whole", "outputs:"] {
        assert!(shown.contains(part), "{shown}");
    }
    let shown: Value = serde_json::from_str(&run(&["log", "inspect", "--json"])).unwrap();
    assert_eq!(shown["journals"].as_array().unwrap().len(), 2);
    assert_eq!(shown["checkpoints"][0]["keys"], 20);
    assert_eq!(shown["identity"]["lanes"], 4);

    let verified = run(&["log", "verify"]);
    assert!(verified.contains("a start goes well"), "{verified}");
    assert!(verified.contains("1 of 1 checkpoints"), "{verified}");

    let records = lines(&run(&["log", "dump"]));
    let registered: Vec<&Value> =
        records.iter().filter(|record| record["kind"] == "register").collect();
    assert_eq!(registered.len(), 41);
    assert!(
        registered.iter().all(|record| record.get("payload").is_none()),
        "not unless asked for"
    );
    assert!(registered.iter().all(|record| record["payload_bytes"].as_u64() > Some(0)));
    let open = lines(&run(&["log", "dump", "--payloads"]));
    assert!(open.iter().any(|record| record["payload"]["secret"] == 1));
    let lane = registered[0]["lane"].to_string();
    let from = registered[0]["position"].to_string();
    let one = lines(&run(&["log", "dump", "--lane", &lane, "--from", &from, "--limit", "1"]));
    assert_eq!((one.len(), &one[0]["position"]), (1, &registered[0]["position"]));

    let told: Value = serde_json::from_str(&run(&["doctor", "--json"])).unwrap();
    assert_eq!((&told["start"], &told["in_use_by"]), (&"goes well".into(), &Value::Null));
    assert_eq!(told["found"]["checkpoints"][0]["keys"], 20);
    assert!(told["says"].as_array().unwrap().iter().all(|it| it["mark"] != "fail"), "{told}");

    let told = run(&["doctor"]);
    for part in ["no process has the directory", "bytes are free", "20 keys", "goes well"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(before == files(&data.path()), "looking has changed something");
}

#[test]
fn a_savepoint_is_checked_too_and_no_start_depends_on_it() {
    let data = Data::with_savepoint();
    let dir = ["--data-dir", &data.text()];
    let run = |command: &[&str]| run_stormwheel(&[command, &dir].concat());
    let shown: Value = serde_json::from_str(&run(&["log", "inspect", "--json"])).unwrap();
    assert_eq!(shown["savepoints"][0]["timers"], 20, "{shown}");
    assert_eq!(shown["savepoints"][0]["is_whole"], true, "{shown}");
    assert!(run(&["log", "verify"]).contains("1 of 1 savepoints whole"));
    let id = shown["savepoints"][0]["savepoint"].as_str().unwrap();
    for part in ["objects/0000", "outputs/0000"] {
        let name = format!("savepoints/{id}/{part}");
        let path = data.path().join("snapshots").join(&name);
        change(&path, |bytes| bytes[30] ^= 1);
        let (code, said) = fail_stormwheel(&[&["log", "verify"][..], &dir].concat());
        assert_eq!(code, Some(4), "{said}");
        assert!(said.contains("a start goes well, but one place is damaged"), "{said}");
        let told = run(&["doctor"]);
        assert!(told.contains(&name) && told.contains("make another one"), "{told}");
        change(&path, |bytes| bytes[30] ^= 1);
    }
    data.serve();
}

#[test]
fn what_is_made_is_for_its_owner_alone_and_the_doctor_looks() {
    use std::os::unix::fs::PermissionsExt as _;
    let data = Data::with_savepoint();
    let mut open = vec![data.path()];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        let metadata = fs::metadata(&path).unwrap();
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.permissions().mode() & 0o777, expected, "{}", path.display());
        seen += 1;
        if metadata.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    assert!(seen > 10, "{seen} files and folders");
    let dir = ["--data-dir", &data.text()];
    assert!(run_stormwheel(&[&["doctor"][..], &dir].concat()).contains("for its owner alone"));
    let set = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    set(&data.path(), 0o755);
    set(&data.path().join("stormwheel.json"), 0o644);
    let told = run_stormwheel(&[&["doctor"][..], &dir].concat());
    assert!(told.contains("mode 755") && told.contains("1 file in it"), "{told}");
    assert!(told.contains("chmod -R go-rwx"), "{told}");
    // What somebody has set is left as it is.
    drop(data.serve());
    let mode = fs::metadata(data.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}

#[test]
fn a_running_service_is_looked_at_and_not_disturbed() {
    let data = Data::new();
    let server = data.serve();
    crate::register(&server, 0..20);
    let dir = ["--data-dir", &data.text()];
    let verified = run_stormwheel(&[&["log", "verify"][..], &dir].concat());
    assert!(verified.contains("the figures move"), "{verified}");
    let told = run_stormwheel(&[&["doctor"][..], &dir].concat());
    assert!(told.contains("has the directory"), "{told}");
    let told = run_stormwheel(&[&["doctor", "--json"][..], &dir].concat());
    let told: Value = serde_json::from_str(&told).unwrap();
    let pid = fs::read_to_string(data.path().join("LOCK")).unwrap();
    assert_eq!(told["in_use_by"].to_string(), pid.trim());
    crate::register(&server, 20..40);
}

#[test]
fn damage_is_named_with_its_place_and_what_comes_of_it() {
    let data = Data::written();
    let segment = data.names("journal").remove(0);
    change(&segment, |bytes| bytes[4_096 + 70] ^= 1);
    let before = files(&data.path());
    let dir = ["--data-dir", &data.text()];
    for command in [&["log", "verify"][..], &["doctor"], &["log", "dump"]] {
        let (code, said) = fail_stormwheel(&[command, &dir].concat());
        assert_eq!(code, Some(4), "{said}");
        assert!(said.contains("a start would be refused"), "{said}");
    }
    let shown = run_stormwheel(&[&["log", "inspect"][..], &dir].concat());
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(shown.contains(&format!("journal/{name} is damaged at offset 4096")), "{shown}");
    assert!(before == files(&data.path()), "looking has changed something");
    // Half a tail is no damage.
    let data = Data::written();
    tear(&data);
    let dir = ["--data-dir", &data.text()];
    let verified = run_stormwheel(&[&["log", "verify"][..], &dir].concat());
    assert!(verified.contains("never became durable"), "{verified}");
    assert!(verified.contains("cuts the unfinished end off"), "{verified}");
    drop(data.serve());
}

/// Breaks the last block of a journal.
fn tear(data: &Data) {
    for segment in data.names("journal").into_iter().rev() {
        let end = fs::read(&segment).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
        if end > 4_096 {
            change(&segment, |bytes| bytes[end] ^= 0xff);
            return;
        }
    }
    panic!("no journal holds a block");
}

#[test]
fn what_is_no_data_directory_is_told_so() {
    let data = Data::new();
    let dir = ["--data-dir", &data.text()];
    let (code, said) = fail_stormwheel(&[&["doctor"][..], &dir].concat());
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("--data-dir"), "{said}");
    assert!(!data.path().exists());
    fs::create_dir(data.path()).unwrap();
    let told = run_stormwheel(&[&["doctor"][..], &dir].concat());
    assert!(told.contains("a start makes a new one"), "{told}");
    fs::write(data.path().join("letter.txt"), "").unwrap();
    let (code, said) = fail_stormwheel(&[&["log", "verify"][..], &dir].concat());
    assert_eq!(code, Some(3), "{said}");
}
