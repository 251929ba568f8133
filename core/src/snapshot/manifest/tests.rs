//! Manifests written, read back, damaged in every way, and picked.

use super::*;
use crate::snapshot::frame::FRAME_BYTES;
use crc32c::{crc32c, crc32c_append};

fn manifest(epoch: u32, checkpoint: u32) -> Manifest {
    let name = ObjectName { epoch, checkpoint, number: 1 };
    Manifest {
        directory: "00112233445566778899aabbccddeeff".to_owned(),
        epoch,
        checkpoint,
        max_parallelism: 128,
        lanes: 2,
        now_ms: i64::MIN,
        created_ms: i64::MAX,
        positions: vec![0, u64::MAX],
        output_cursor: u64::MAX,
        incarnation_floor: 7,
        objects: vec![ObjectRef::new(name, 1 << 40, 0x1f)],
    }
}

#[test]
fn a_manifest_comes_back() {
    let it = manifest(3, 0xab);
    let bytes = it.encode();
    assert_eq!(Manifest::decode(it.name(), &bytes), Ok(it.clone()));
    let text = String::from_utf8_lossy(&bytes[FRAME_BYTES..]).into_owned();
    assert!(text.starts_with("{\"directory\":\"0011"), "{text}");
    let other = ManifestName { checkpoint: 1, ..it.name() };
    let fault = Manifest::decode(other, &bytes).expect_err("it is another one");
    assert_eq!(
        fault.to_string(),
        "manifests/00000003-00000001 is another one than expected: \
         name is manifests/00000003-000000ab, not manifests/00000003-00000001"
    );
}

#[test]
fn names_have_one_spelling_and_sort_by_age() {
    let object = ObjectName { epoch: 1, checkpoint: 0xabc, number: 0x1_0000 };
    assert_eq!(object.to_string(), "objects/00000001-00000abc-10000");
    for name in [object, ObjectName { number: 0, ..object }, ObjectName { epoch: 9, ..object }] {
        assert_eq!(ObjectName::parse(&name.to_string()), Some(name));
    }
    let name = ManifestName { epoch: u32::MAX, checkpoint: 0 };
    assert_eq!(name.to_string(), "manifests/ffffffff-00000000");
    assert_eq!(ManifestName::parse(&name.to_string()), Some(name));
    assert!(ManifestName { epoch: 2, checkpoint: 0 } > ManifestName { epoch: 1, checkpoint: 9 });
    for wrong in [
        "",
        "manifests/",
        "manifests/1-2",
        "manifests/00000001-0000000A",
        "manifests/00000001-00000001-0001",
        "manifests/+0000001-00000001",
        "manifests/00000001-00000001.tmp",
        "objects/00000001-00000001",
        "objects/00000001-00000001-1",
        "objects/00000001-00000001-00001",
        "xmanifests/00000001-00000001",
    ] {
        assert_eq!(ManifestName::parse(wrong), None, "{wrong}");
        assert_eq!(ObjectName::parse(wrong), None, "{wrong}");
    }
    assert_eq!(parse_digest(&format!("{:032x}", u128::MAX)), Some(u128::MAX));
    for wrong in ["", "1f", "0000000000000000000000000000001F", "+000000000000000000000000000001f"]
    {
        assert_eq!(parse_digest(wrong), None, "{wrong}");
    }
}

#[test]
fn every_flip_and_every_cut_is_seen() {
    let it = manifest(1, 2);
    let good = it.encode();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            let fault = Manifest::decode(it.name(), &bytes).expect_err("a flip is seen");
            assert!(matches!(fault, SnapshotFault::Damaged { .. }), "byte {at}: {fault}");
        }
        assert!(Manifest::decode(it.name(), &good[..at]).is_err(), "cut at {at}");
    }
    let longer = [&good[..], &[0]].concat();
    assert!(Manifest::decode(it.name(), &longer).is_err());
}

fn reseal(bytes: &mut [u8]) {
    let crc = crc32c_append(crc32c(&bytes[..16]), &bytes[FRAME_BYTES..]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let check = |change: &dyn Fn(&mut Manifest)| {
        let mut it = manifest(1, 2);
        change(&mut it);
        let fault = Manifest::decode(it.name(), &it.encode()).expect_err("it does not fit");
        assert!(matches!(fault, SnapshotFault::Damaged { .. }), "{fault}");
    };
    check(&|it| it.lanes = 3);
    check(&|it| it.objects[0].name = "elsewhere".to_owned());
    check(&|it| it.objects[0].digest = "5".to_owned());
}

/// Picks out of manifests given as (epoch, checkpoint, what became of it).
fn pick(made: &[(u32, u32, &str)]) -> Result<Option<(ManifestName, usize)>, SnapshotFault> {
    let mut names = vec!["manifests/readme".to_owned()];
    names.extend(
        made.iter().map(|(epoch, checkpoint, _)| manifest(*epoch, *checkpoint).name().to_string()),
    );
    let found = newest(&names, |name| {
        let (epoch, checkpoint, fate) = made
            .iter()
            .find(|(epoch, checkpoint, _)| manifest(*epoch, *checkpoint).name().to_string() == name)
            .expect("only what is there is asked for");
        let mut bytes = manifest(*epoch, *checkpoint).encode();
        match *fate {
            "torn" => bytes.truncate(30),
            "newer" => {
                bytes[8] = 9;
                reseal(&mut bytes);
            }
            _ => {}
        }
        Ok::<_, SnapshotFault>(bytes)
    })?;
    Ok(found.map(|it| (it.manifest.name(), it.skipped.len())))
}

#[test]
fn the_newest_that_is_whole_wins() {
    let name = |epoch, checkpoint| ManifestName { epoch, checkpoint };
    assert_eq!(pick(&[]), Ok(None));
    assert_eq!(pick(&[(1, 9, ""), (2, 1, ""), (1, 3, "")]), Ok(Some((name(2, 1), 0))));
    assert_eq!(pick(&[(1, 9, ""), (2, 1, "torn")]), Ok(Some((name(1, 9), 1))));
    assert!(pick(&[(1, 9, "torn"), (2, 1, "torn")]).is_err(), "there should be one");
    let fault = pick(&[(1, 9, ""), (2, 1, "newer")]).expect_err("it is not passed over");
    let expected = "manifests/00000002-00000001 has format 9, this version knows up to 1: start the version that wrote it, or a later one";
    assert_eq!(fault.to_string(), expected);
}
