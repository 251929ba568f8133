//! What is said of the log, of checkpoints and of the room that is left.

use super::*;
use crate::ports::Disk;
use crate::runtime::DurabilityMetrics;

impl World {
    fn figures(&mut self) -> DurabilityMetrics {
        self.node().engine().durability_metrics()
    }

    /// Bytes of all files of the logs.
    pub(super) fn taken_bytes(&self) -> u64 {
        let names = self.disk.names();
        let logs = names.iter().filter(|name| name.contains('/'));
        logs.map(|name| self.disk.open(name).expect("it is there").len_bytes().expect("it has"))
            .sum()
    }
}

#[test]
fn what_a_start_would_follow_is_what_stands_above_the_newest_checkpoint() {
    let mut world = World::new(2);
    world.checkpoint();
    assert_eq!(world.figures().log_replay_bytes, 0);
    world.register(0..300, 1_000_000);
    let first = world.figures().log_replay_bytes;
    assert!(first > 300 * 20, "{first}");
    world.crash();
    let followed = world.node().engine().durability().recovered.map(|it| it.replayed_bytes);
    assert_eq!(Some(world.figures().log_replay_bytes), followed, "a start would do that again");
    world.register(300..600, 1_000_000);
    assert!(world.figures().log_replay_bytes > first);
    world.checkpoint();
    assert_eq!(world.figures().log_replay_bytes, 0);
    world.crash();
    assert_eq!(world.figures().log_replay_bytes, 0);
    world.register(600..610, 1_000_000);
    let little = world.figures().log_replay_bytes;
    assert!(0 < little && little < first / 4, "{little}");
}

#[test]
fn the_log_is_the_journals_and_room_is_what_the_disk_and_the_bound_leave() {
    let mut world = World::new(2);
    world.register(0..300, 1_000);
    world.pass(1_000);
    world.settle();
    let journals = world.disk.names().iter().filter(|name| name.starts_with("journal/")).count();
    assert_eq!(world.figures().log_bytes, journals as u64 * (64 << 10));
    assert_eq!(world.figures().data_dir_free_bytes, Some(u64::MAX - world.taken_bytes()));
    world.max_disk_bytes = 4 << 20;
    world.crash();
    let taken = world.taken_bytes();
    assert_eq!(world.figures().data_dir_free_bytes, Some((4 << 20) - taken));
    world.disk.set_free_bytes(1_000);
    assert_eq!(world.figures().data_dir_free_bytes, Some(1_000));
}
