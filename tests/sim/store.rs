//! A simulated snapshot store: objects are there whole or not at all, also after a crash in the
//! middle of a put, and also after a put that failed (it may have arrived and only the answer not).

use crate::machine::{Call, Fault, Machine, Verdict, down};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stormwheel::ports::SnapshotStore;

/// See the module. Clones are the same store.
#[derive(Clone)]
pub(crate) struct SimStore {
    machine: Machine,
    objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl SimStore {
    pub(crate) fn new(machine: Machine) -> Self {
        Self { machine, objects: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A store of its own with the same objects.
    pub(crate) fn copy(&self, machine: Machine) -> Self {
        Self { machine, objects: Arc::new(Mutex::new(self.lock().clone())) }
    }

    /// The objects with their sizes.
    pub(crate) fn objects(&self) -> Vec<(String, usize)> {
        self.lock().iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect()
    }

    /// What an object holds, without a call.
    pub(crate) fn peek(&self, name: &str) -> Option<Vec<u8>> {
        self.lock().get(name).cloned()
    }

    /// Puts bytes in the place of an object's, as no client could.
    pub(crate) fn replace(&self, name: &str, bytes: Vec<u8>) {
        self.lock().insert(name.to_owned(), bytes);
    }

    /// Turns one bit of an object over.
    pub(crate) fn rot(&self, name: &str, bit: usize) {
        if let Some(byte) = self.lock().get_mut(name).and_then(|bytes| bytes.get_mut(bit / 8)) {
            *byte ^= 1 << (bit % 8);
        }
    }

    fn admit(&self, call: Call, name: &str, length: usize) -> io::Result<()> {
        match self.machine.admit(call, name, 0, length as u64) {
            Verdict::Go => Ok(()),
            Verdict::Fail(fault) => Err(fault.error()),
            Verdict::GoDown | Verdict::Down => Err(down()),
        }
    }
}

impl SnapshotStore for SimStore {
    fn put(&self, name: &str, bytes: Vec<u8>) -> io::Result<()> {
        let verdict = self.machine.admit(Call::Put, name, 0, bytes.len() as u64);
        let (arrives, answer) = match verdict {
            Verdict::Down => return Err(down()),
            Verdict::Go => (true, Ok(())),
            Verdict::GoDown => (self.machine.draw(2) == 0, Err(down())),
            Verdict::Fail(Fault::Enospc) => (false, Err(Fault::Enospc.error())),
            Verdict::Fail(fault) => (self.machine.draw(2) == 0, Err(fault.error())),
        };
        let mut objects = self.lock();
        if objects.contains_key(name) {
            return answer.and(Err(ErrorKind::AlreadyExists.into()));
        }
        if arrives {
            objects.insert(name.to_owned(), bytes);
        }
        answer
    }

    fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        self.admit(Call::Get, name, 0)?;
        self.lock().get(name).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.admit(Call::ListObjects, prefix, 0)?;
        Ok(self.lock().keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let verdict = self.machine.admit(Call::RemoveObject, name, 0, 0);
        let (goes, answer) = match verdict {
            Verdict::Down => return Err(down()),
            Verdict::Go => (true, Ok(())),
            Verdict::GoDown => (self.machine.draw(2) == 0, Err(down())),
            Verdict::Fail(fault) => (self.machine.draw(2) == 0, Err(fault.error())),
        };
        if goes {
            self.lock().remove(name);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_once_and_an_object_is_whole() {
        let machine = Machine::new(3);
        let store = SimStore::new(machine.clone());
        store.put("a/1", vec![1, 2, 3]).unwrap();
        let again = store.put("a/1", vec![9]).map_err(|error| error.kind());
        assert_eq!(again, Err(ErrorKind::AlreadyExists));
        assert_eq!(store.get("a/1").unwrap(), [1, 2, 3]);
        assert_eq!(store.list("a/").unwrap(), ["a/1"]);
        for seed in 0..20 {
            let machine = Machine::new(seed);
            let store = SimStore::new(machine.clone());
            machine.go_down_in(1);
            assert!(store.put("x", vec![7; 9]).is_err());
            assert!(store.get("x").is_err(), "the machine is down");
            machine.come_up();
            assert!(
                store.get("x").is_ok_and(|bytes| bytes == [7; 9]) || store.objects().is_empty()
            );
        }
        store.rot("a/1", 9);
        assert_eq!(store.peek("a/1").unwrap(), [1, 0, 3]);
        store.remove("a/1").unwrap();
        assert_eq!(store.get("a/1").map_err(|error| error.kind()), Err(ErrorKind::NotFound));
    }
}
