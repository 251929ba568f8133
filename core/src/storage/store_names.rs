//! Which names in a snapshot store are ours. A store may be a place that others use, too: what has
//! another name is theirs, and nobody here touches it.

use crate::snapshot::{ManifestName, ObjectName, SavepointManifest};

/// What the names of all savepoints in a snapshot store begin with.
pub(crate) const SAVEPOINTS: &str = "savepoints/";
/// Begins the ids of savepoints that somebody asked for.
pub(crate) const ASKED: &str = "sp-";
/// Begins the ids of savepoints that were made by themselves, and so go by themselves.
pub(crate) const SCHEDULED: &str = "auto-";

/// Whether a name in a snapshot store is one that a service gives.
pub fn is_snapshot_name(name: &str) -> bool {
    ObjectName::parse(name).is_some()
        || ManifestName::parse(name).is_some()
        || is_savepoint_name(name)
}

/// Whether it is that of a file of a savepoint that was made here.
pub(crate) fn is_savepoint_name(name: &str) -> bool {
    let rest = name.strip_prefix(SAVEPOINTS).and_then(|rest| rest.split_once('/'));
    let Some((_, file)) = rest.filter(|(id, _)| is_savepoint_id(id)) else {
        return false;
    };
    let number = ["objects/", "outputs/"].iter().find_map(|folder| file.strip_prefix(folder));
    file == SavepointManifest::NAME || number.is_some_and(is_number)
}

/// Whether a savepoint is called so that was made here, and not copied to where it is.
pub(crate) fn is_savepoint_id(id: &str) -> bool {
    id.starts_with(ASKED) || id.starts_with(SCHEDULED)
}

/// As `{:04x}` writes it.
fn is_number(digits: &str) -> bool {
    u32::from_str_radix(digits, 16).is_ok_and(|number| format!("{number:04x}") == digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_or_not() {
        for own in [
            "objects/0000000a-00000001-0001",
            "manifests/0000000a-00000001",
            "savepoints/sp-20261121T140512Z-0001/savepoint",
            "savepoints/sp-20261121T140512Z-0001/objects/0001",
            "savepoints/auto-20261121T140512Z-0002/outputs/00ff",
        ] {
            assert!(is_snapshot_name(own), "{own}");
        }
        for other in [
            "",
            "objects/0000000A-00000001-0001",
            "objects/0000000a-00000001-0001.old",
            "manifests/",
            "copy/manifests/0000000a-00000001",
            "savepoints/savepoint",
            "savepoints/sp-1",
            "savepoints/monday/savepoint",
            "savepoints/sp-1/objects/1",
            "savepoints/sp-1/objects/+001",
            "savepoints/sp-1/notes.txt",
            "savepoints/sp-1/copy/savepoint",
        ] {
            assert!(!is_snapshot_name(other), "{other}");
        }
    }
}
