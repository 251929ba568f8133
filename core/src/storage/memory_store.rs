//! A snapshot store in memory: for tests, and for those who want snapshots without files.

use crate::ports::SnapshotStore;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module. Clones share what is stored.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl MemoryStore {
    /// A store with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        // A map is whole between any two calls, whoever panicked elsewhere.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SnapshotStore for MemoryStore {
    fn put(&self, name: &str, bytes: Vec<u8>) -> io::Result<()> {
        let mut objects = self.objects();
        if objects.contains_key(name) {
            let message = format!("there is an object {name} already");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        objects.insert(name.to_owned(), bytes);
        Ok(())
    }

    fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        let missing =
            || io::Error::new(io::ErrorKind::NotFound, format!("there is no object {name}"));
        self.objects().get(name).cloned().ok_or_else(missing)
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let objects = self.objects();
        let from = objects.range(prefix.to_owned()..).map(|(name, _)| name);
        Ok(from.take_while(|name| name.starts_with(prefix)).cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.objects().remove(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_the_port_promises() {
        let store = MemoryStore::new();
        let other = store.clone();
        store.put("b/2", vec![2]).expect("the name is free");
        store.put("b/1", vec![1]).expect("the name is free");
        store.put("c/1", vec![3]).expect("the name is free");
        let taken = other.put("b/1", vec![9]).expect_err("the name is taken");
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(other.get("b/1").expect("it is there"), [1]);
        assert_eq!(other.list("b/").expect("a list"), ["b/1", "b/2"]);
        assert_eq!(other.list("").expect("a list").len(), 3);
        other.remove("b/1").expect("it is there");
        other.remove("b/1").expect("nothing is no error");
        assert_eq!(store.get("b/1").expect_err("it is gone").kind(), io::ErrorKind::NotFound);
        assert_eq!(store.list("d").expect("a list"), [""; 0]);
    }
}
