//! The timers of a key that has more than one.
//!
//! Up to [`FEW_MAX`] stand in one small array, sorted so that the earliest is the last and comes
//! off without moving the others; beyond that an ordered tree takes over, with the names beside it.
//! Both domains live here, each with the time at which the wheel's live entry for this key stands;
//! and the key's state, if it has one, since the slot has only one link.

use super::blob::Link;
use super::bytes::BytesPool;
use super::state::StateLink;
use crate::op::DEFAULT_TIMER_NAME;
use crate::prefetch::prefetch;
use crate::time::{Domain, Timestamp};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Timers of one domain that are kept in an array.
pub(crate) const FEW_MAX: usize = 16;

/// How a timer is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameClass {
    /// Not at all.
    Unnamed,
    /// The default name, which needs no room.
    Default,
    /// Another name, in the blob.
    Named,
}

/// One timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) time: Timestamp,
    pub(crate) name: NameClass,
    pub(crate) link: Link,
}

impl Cell {
    /// Its name, if it has one.
    pub(crate) fn name(self, bytes: &BytesPool) -> Option<&str> {
        match self.name {
            NameClass::Unnamed => None,
            NameClass::Default => Some(DEFAULT_TIMER_NAME),
            NameClass::Named => Some(self.link.load(bytes).0),
        }
    }

    /// The order in which timers of one key fire: by time, then unnamed first, then by the name.
    fn order(self, other: Self, bytes: &BytesPool) -> Ordering {
        self.time.cmp(&other.time).then_with(|| self.name(bytes).cmp(&other.name(bytes)))
    }
}

/// The timers of one key.
#[derive(Debug, Default)]
pub(crate) struct Several {
    domains: [DomainTimers; 2],
    pub(crate) state: Option<StateLink>,
}

/// The lists of a shard, in chunks that stay where they are.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    chunks: Vec<Vec<Several>>,
    free: Vec<u32>,
}

const CHUNK_LISTS: usize = 1_024;

impl Lists {
    pub(crate) fn get(&self, list: u32) -> &Several {
        &self.chunks[list as usize / CHUNK_LISTS][list as usize % CHUNK_LISTS]
    }

    /// Asks for a list that is there.
    #[inline]
    pub(crate) fn prefetch(&self, list: u32) {
        prefetch(self.get(list));
    }

    pub(crate) fn get_mut(&mut self, list: u32) -> &mut Several {
        &mut self.chunks[list as usize / CHUNK_LISTS][list as usize % CHUNK_LISTS]
    }

    /// An empty list.
    pub(crate) fn take(&mut self) -> u32 {
        if let Some(list) = self.free.pop() {
            return list;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_LISTS) {
            self.chunks.push(Vec::with_capacity(CHUNK_LISTS));
        }
        let full = (self.chunks.len() - 1) * CHUNK_LISTS;
        let chunk = self.chunks.last_mut().expect("one was pushed if there was none");
        chunk.push(Several::default());
        (full + chunk.len() - 1) as u32
    }

    /// Gives a list back.
    pub(crate) fn release(&mut self, list: u32) {
        *self.get_mut(list) = Several::default();
        self.free.push(list);
    }

    /// Bytes taken, without what the lists themselves allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK_LISTS * size_of::<Several>()
    }
}

/// The timers of one key in one domain.
#[derive(Debug, Default)]
pub(crate) struct DomainTimers {
    /// Where the wheel's live entry stands; `None`: there is none.
    pub(crate) armed: Option<Timestamp>,
    timers: Timers,
}

#[derive(Debug)]
enum Timers {
    /// Latest first.
    Few(Vec<Cell>),
    Many(Box<Many>),
}

#[derive(Debug, Default)]
struct Many {
    by_time: BTreeMap<(Timestamp, Option<Box<str>>), Cell>,
    by_name: BTreeMap<Box<str>, Timestamp>,
}

impl Default for Timers {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

/// Which timer of a key and domain is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity<'a> {
    /// The unnamed one of this time.
    Time(Timestamp),
    /// The one of this name.
    Name(&'a str),
}

impl Several {
    pub(crate) fn domain(&self, domain: Domain) -> &DomainTimers {
        &self.domains[domain as usize]
    }

    pub(crate) fn domain_mut(&mut self, domain: Domain) -> &mut DomainTimers {
        &mut self.domains[domain as usize]
    }

    /// How many there are, over both domains.
    pub(crate) fn len(&self) -> usize {
        self.domains.iter().map(DomainTimers::len).sum()
    }

    /// The one timer that is left, if it is one.
    pub(crate) fn only(&self) -> Option<(Domain, Cell)> {
        let mut left = Domain::ALL
            .into_iter()
            .filter_map(|domain| Some((domain, self.domain(domain).earliest()?)));
        let only = left.next()?;
        (self.len() == 1).then_some(only)
    }
}

impl DomainTimers {
    pub(crate) fn len(&self) -> usize {
        match &self.timers {
            Timers::Few(cells) => cells.len(),
            Timers::Many(many) => many.by_time.len(),
        }
    }

    /// The timer that fires first.
    pub(crate) fn earliest(&self) -> Option<Cell> {
        match &self.timers {
            Timers::Few(cells) => cells.last().copied(),
            Timers::Many(many) => many.by_time.first_key_value().map(|(_, cell)| *cell),
        }
    }

    pub(crate) fn find(&self, bytes: &BytesPool, identity: Identity<'_>) -> Option<Cell> {
        match &self.timers {
            Timers::Few(cells) => few_position(cells, bytes, identity).map(|index| cells[index]),
            Timers::Many(many) => match identity {
                Identity::Time(time) => many.by_time.get(&(time, None)).copied(),
                Identity::Name(name) => {
                    let time = *many.by_name.get(name)?;
                    many.by_time.get(&(time, Some(name.into()))).copied()
                }
            },
        }
    }

    /// Adds a timer; none of its identity is there.
    pub(crate) fn insert(&mut self, bytes: &BytesPool, cell: Cell) {
        match &mut self.timers {
            Timers::Few(cells) if cells.len() < FEW_MAX => {
                let place = cells.partition_point(|c| c.order(cell, bytes) == Ordering::Greater);
                cells.insert(place, cell);
            }
            Timers::Few(cells) => {
                let mut many = Many::default();
                for cell in cells.drain(..).chain([cell]) {
                    many.insert(bytes, cell);
                }
                self.timers = Timers::Many(Box::new(many));
            }
            Timers::Many(many) => many.insert(bytes, cell),
        }
    }

    /// Takes a timer out.
    pub(crate) fn remove(&mut self, bytes: &BytesPool, identity: Identity<'_>) -> Option<Cell> {
        match &mut self.timers {
            Timers::Few(cells) => {
                few_position(cells, bytes, identity).map(|index| cells.remove(index))
            }
            Timers::Many(many) => match identity {
                Identity::Time(time) => many.by_time.remove(&(time, None)),
                Identity::Name(name) => {
                    let (name, time) = many.by_name.remove_entry(name)?;
                    many.by_time.remove(&(time, Some(name)))
                }
            },
        }
    }

    /// Takes the timer out that fires first.
    pub(crate) fn pop_earliest(&mut self) -> Option<Cell> {
        match &mut self.timers {
            Timers::Few(cells) => cells.pop(),
            Timers::Many(many) => {
                let ((_, name), cell) = many.by_time.pop_first()?;
                if let Some(name) = name {
                    many.by_name.remove(&name);
                }
                Some(cell)
            }
        }
    }

    /// Calls `each` in the order of firing.
    pub(crate) fn for_each(&self, mut each: impl FnMut(Cell)) {
        match &self.timers {
            Timers::Few(cells) => cells.iter().rev().copied().for_each(&mut each),
            Timers::Many(many) => many.by_time.values().copied().for_each(&mut each),
        }
    }
}

fn few_position(cells: &[Cell], bytes: &BytesPool, identity: Identity<'_>) -> Option<usize> {
    cells.iter().position(|cell| match identity {
        Identity::Time(time) => cell.name == NameClass::Unnamed && cell.time == time,
        Identity::Name(name) => cell.name(bytes) == Some(name),
    })
}

impl Many {
    fn insert(&mut self, bytes: &BytesPool, cell: Cell) {
        let name: Option<Box<str>> = cell.name(bytes).map(Into::into);
        if let Some(name) = &name {
            self.by_name.insert(name.clone(), cell.time);
        }
        let before = self.by_time.insert((cell.time, name), cell);
        assert!(before.is_none(), "a timer of this identity was there");
    }
}
