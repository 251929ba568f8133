//! Random histories: appends, syncs, crashes, and crashes while what a crash left is put in order.
//! What was synced is there afterwards, and nothing is there that was never appended.

use super::*;
use crate::storage::memory_disk::{Failure, Rng};
use std::collections::BTreeMap;
use std::io::ErrorKind;

/// What is known from outside.
#[derive(Default)]
struct Ledger {
    /// By lane: the blocks by their first position, as they were appended last.
    appended: Vec<BTreeMap<u64, LaneBlock>>,
    /// By lane: the last position of which it was said that it is durable.
    durable: Vec<u64>,
    /// By lane: the position behind which a replay starts.
    starts: Vec<u64>,
}

struct History {
    rng: Rng,
    disk: MemoryDisk,
    ledger: Ledger,
    epoch: u32,
}

impl History {
    fn new(seed: u64) -> Self {
        let lanes = LANES as usize;
        let ledger = Ledger {
            appended: vec![BTreeMap::new(); lanes],
            durable: vec![0; lanes],
            starts: vec![0; lanes],
        };
        Self { rng: Rng(seed), disk: MemoryDisk::default(), ledger, epoch: 0 }
    }

    /// The process or the power goes.
    fn crash(&mut self) {
        self.disk = match self.rng.below(4) {
            0 => self.disk.kill(),
            1 => self.disk.crash(None),
            _ => self.disk.crash(Some(&mut self.rng)),
        };
    }

    fn recover(&mut self) -> Recovered {
        // A few attempts are cut off.
        for _ in 0..self.rng.below(3) {
            let call = self.rng.below(40);
            self.disk.fail_at(call, Failure::Error(ErrorKind::Other));
            match read_with(&self.disk, true) {
                Ok(_) | Err(RecoveryFault::Disk(_)) => {}
                Err(fault) => panic!("{fault}"),
            }
            self.crash();
        }
        let recovered = read_with(&self.disk, true).unwrap_or_else(|fault| panic!("{fault}"));
        recovered.check_from(&self.ledger.starts).unwrap();
        assert!(recovered.highest_epoch >= self.epoch);
        for lane in 0..LANES {
            self.check_lane(lane, &recovered);
        }
        recovered
    }

    fn check_lane(&mut self, lane: u16, recovered: &Recovered) {
        let index = lane as usize;
        let start = self.ledger.starts[index];
        let mut last = start;
        for block in recovered.blocks_from(lane, start) {
            let appended = &self.ledger.appended[index][&block.first];
            assert_eq!(block.count, appended.count);
            assert_eq!(recovered.read_block(block).unwrap(), appended.records);
            last = block.last();
        }
        assert!(
            last >= self.ledger.durable[index],
            "lane {lane}: {last} of {:?}",
            self.ledger.durable
        );
        // It is durable now: recovery has said it.
        self.ledger.durable[index] = last;
        self.ledger.appended[index].retain(|first, _| *first <= last);
    }

    /// One run of the process, up to where it ends.
    fn run(&mut self) {
        let recovered = self.recover();
        let mut old = recovered.old;
        self.epoch = recovered.highest_epoch + 1;
        let segments = segments_with(&self.disk, self.rng.below(3) as usize, u64::MAX);
        let count = self.rng.below(u64::from(LANES)) as u16 + 1;
        let mut journals: Vec<Journal> = (0..count)
            .map(|index| {
                Journal::create(Arc::clone(&segments), options(self.epoch, index)).unwrap()
            })
            .collect();
        let mut position: Vec<u64> = self.ledger.durable.clone();
        if self.rng.below(2) == 0 {
            let call = self.rng.below(200);
            let kind = [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::Interrupted];
            let kind = kind[self.rng.below(3) as usize];
            self.disk.fail_at(call, Failure::Error(kind));
        }
        for _ in 0..self.rng.below(60) {
            let index = self.rng.below(journals.len() as u64) as u16;
            let journal = &mut journals[index as usize];
            let outcome = match self.rng.below(8) {
                0..=3 => {
                    let lanes = (index..LANES).step_by(count as usize);
                    let lane = lanes.clone().nth(self.rng.below(lanes.len() as u64) as usize);
                    let lane = lane.unwrap_or(index);
                    let at = &mut position[lane as usize];
                    let bytes = [0, 40, 600, 5_000][self.rng.below(4) as usize];
                    let mut block = block(lane, *at + 1, self.rng.below(5) as u32 + 1, bytes);
                    // Another run writes something else at the same position.
                    block.records.extend_from_slice(&self.rng.next().to_le_bytes());
                    let outcome = journal.append(&block);
                    if outcome.is_ok() {
                        *at += u64::from(block.count);
                        self.ledger.appended[lane as usize].insert(block.first_position, block);
                    }
                    outcome.map(|_| ())
                }
                4 => journal.write(),
                5 => self.commit(journal, &position, index, count),
                6 => journal.mark().map(|_| ()).and_then(|()| segments.prepare().map(|_| ())),
                _ => self.cut(journal, &mut old, &segments),
            };
            if outcome.is_err() && self.rng.below(2) == 0 {
                break;
            }
        }
        if self.rng.below(4) == 0 {
            for (index, journal) in journals.iter_mut().enumerate() {
                if journal.seal().is_ok() {
                    self.said_durable(&position, index as u16, count);
                }
            }
        }
        drop(journals);
        self.crash();
    }

    fn commit(
        &mut self,
        journal: &mut Journal,
        position: &[u64],
        index: u16,
        count: u16,
    ) -> Result<(), crate::storage::DiskFault> {
        journal.write()?;
        journal.sync()?;
        assert_eq!(journal.durable(), journal.appended());
        self.said_durable(position, index, count);
        Ok(())
    }

    fn said_durable(&mut self, position: &[u64], index: u16, count: u16) {
        for lane in (index as usize..LANES as usize).step_by(count as usize) {
            self.ledger.durable[lane] = position[lane];
        }
    }

    /// A snapshot of something durable was taken.
    fn cut(
        &mut self,
        journal: &mut Journal,
        old: &mut crate::storage::OldJournals,
        segments: &Segments,
    ) -> Result<(), crate::storage::DiskFault> {
        for (lane, start) in self.ledger.starts.iter_mut().enumerate() {
            *start += self.rng.below(self.ledger.durable[lane] - *start + 1);
        }
        old.cut(&self.ledger.starts, segments)?;
        journal.cut(&self.ledger.starts)?;
        Ok(())
    }
}

#[test]
fn what_is_durable_is_there_and_nothing_is_invented() {
    for seed in 0..600 {
        let mut history = History::new(seed);
        for _ in 0..6 {
            history.run();
        }
        history.recover();
    }
}
