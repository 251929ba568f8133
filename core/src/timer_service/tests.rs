//! What a user of the library sees, with threads; `crash` has what only a crash shows.

use super::*;
use crate::error::Rejection;
use crate::ports::MachineClock;
use crate::runtime::{FolderFault, StorageOptions};
use crate::storage::MemoryStore;
use crate::storage::memory_disk::{Failure, MemoryDisk};
use futures_core::Stream as _;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc;
use std::thread::scope;
use std::time::SystemTime;

mod crash;

const START_MS: i64 = 1_700_000_000_000;
/// Nothing takes so long: what is waited for this long never comes.
const LONG: Duration = Duration::from_mins(1);

/// A machine's clock that moves when it is told to.
#[derive(Default)]
struct TestClock(AtomicI64);

impl TestClock {
    fn pass(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

impl MachineClock for TestClock {
    fn realtime_ms(&self) -> i64 {
        START_MS + self.0.load(Ordering::Relaxed)
    }

    fn boottime_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A folder of this process's own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("stormwheel-timers-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn manual() -> TimerService {
    Options::new().manual_clock().in_memory().unwrap()
}

#[allow(clippy::disallowed_methods, reason = "a user of the library reads the machine's clock")]
fn machine_now() -> SystemTime {
    SystemTime::now()
}

/// Key, name and payload.
fn texts(fires: &[Fire]) -> Vec<(String, String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let it = fires.iter();
    it.map(|it| (text(it.key()), it.name().unwrap_or("-").to_owned(), text(it.payload()))).collect()
}

fn keys(fires: &[Fire]) -> Vec<String> {
    texts(fires).into_iter().map(|(key, _, _)| key).collect()
}

#[test]
fn fires_come_in_the_order_of_time_then_key_then_name() {
    let timers = manual();
    timers.schedule_named("b", "y", at(20), "1").unwrap();
    timers.schedule_named("b", "x", at(20), "2").unwrap();
    timers.schedule("b", at(20), "3").unwrap();
    timers.schedule("z", at(10), "4").unwrap();
    timers.schedule("a", at(20), "5").unwrap();
    timers.schedule("a", at(-5), "6").unwrap();
    timers.schedule("late", at(i64::MAX), "7").unwrap();
    assert_eq!(timers.len(), 7);
    let fires = timers.poll_due(at(20)).unwrap();
    let expected = [
        ("a", "-", "6"),
        ("z", "-", "4"),
        ("a", "-", "5"),
        ("b", "-", "3"),
        ("b", "x", "2"),
        ("b", "y", "1"),
    ];
    let found = texts(&fires);
    assert!(found.iter().map(|(a, b, c)| (&**a, &**b, &**c)).eq(expected), "{found:?}");
    assert_eq!((fires[1].fire_at(), fires[1].fired_at()), (at(10), at(20)));
    assert!(timers.poll_due(at(20)).unwrap().is_empty(), "each is handed out once");
    assert_eq!(timers.len(), 1);
    assert_eq!(keys(&timers.poll_due(at(i64::MAX)).unwrap()), ["late"]);
}

#[test]
fn a_manual_clock_only_moves_forward_and_after_counts_from_it() {
    let timers = manual();
    let refused = timers.schedule("k", Duration::from_millis(5), "").unwrap_err();
    assert!(matches!(refused, Error::Rejected(Rejection::ClockUnset)), "{refused}");
    assert!(timers.poll_due(at(1_000)).unwrap().is_empty());
    let scheduled = timers.schedule("k", Duration::from_micros(4_001), "").unwrap();
    assert_eq!(scheduled.fire_at, at(1_005), "never before");
    assert!(timers.poll_due(at(1_004)).unwrap().is_empty());
    assert!(timers.poll_due(at(10)).unwrap().is_empty());
    assert_eq!(timers.advance(at(1_005)).unwrap(), 1);
    assert!(timers.poll_due(at(1_004)).unwrap().is_empty(), "it is due later");
    assert_eq!(timers.try_next().unwrap().unwrap().key(), b"k");
    assert!(timers.try_next().unwrap().is_none());
}

#[test]
fn on_the_machines_clock_fires_come_by_themselves_and_none_before_its_time() {
    let timers = TimerService::in_memory().unwrap();
    let time = machine_now() + Duration::from_millis(20);
    let due = timers.schedule("soon", time, "").unwrap().fire_at;
    let fire = timers.next_timeout(LONG).unwrap().expect("it comes");
    assert!(Timestamp::from(machine_now()) >= due && fire.fired_at() >= due);
    assert!(matches!(timers.advance(due), Err(Error::ClockNotManual)));

    // What is due is there at once, whoever asks; what is not is not, whatever time is asked for.
    let now = machine_now();
    timers.schedule("b", now - Duration::from_secs(1), "").unwrap();
    timers.schedule("a", now - Duration::from_secs(2), "").unwrap();
    timers.schedule("later", now + Duration::from_hours(1), "").unwrap();
    let before = now - Duration::from_millis(1_500);
    assert_eq!(keys(&timers.poll_due(before).unwrap()), ["a"]);
    assert_eq!(keys(&timers.poll_due(now + Duration::from_hours(2)).unwrap()), ["b"]);
    assert_eq!(timers.len(), 1);
}

#[test]
fn whoever_polls_in_a_storm_gets_all_of_it() {
    const TIMERS: usize = 20_000;
    let clock = Arc::<TestClock>::default();
    let machine = Arc::clone(&clock) as Arc<dyn MachineClock>;
    let timers = Options::new().start(None, machine).unwrap();
    let mut batch = timers.batch().unwrap();
    for number in 0..TIMERS {
        batch.schedule(format!("{number:05}"), Duration::from_millis(10), "").unwrap();
    }
    batch.commit().unwrap();
    clock.pass(9);
    assert!(timers.poll_due(at(START_MS + 9)).unwrap().is_empty());
    clock.pass(1);
    let fires = timers.poll_due(at(START_MS + 10)).unwrap();
    assert_eq!(fires.len(), TIMERS);
    assert!(fires.is_sorted_by_key(|fire| fire.key().to_vec()));
}

#[test]
fn cancelled_timers_never_fire_and_lists_say_what_is_left() {
    let timers = manual();
    for (key, time) in [("a", 1), ("a", 2), ("a", 3), ("b", 1)] {
        timers.schedule(key, at(time), "").unwrap();
    }
    timers.schedule_named("a", "n", at(4), "payload").unwrap();
    assert!(timers.cancel("a", at(2)).unwrap());
    assert!(!timers.cancel("a", at(2)).unwrap());
    assert!(timers.exists("a", at(1)).unwrap() && !timers.exists("a", at(2)).unwrap());
    assert!(timers.exists_named("a", "n").unwrap() && !timers.exists_named("a", "m").unwrap());
    let listed = timers.list("a").unwrap();
    assert_eq!(listed.iter().map(|it| it.fire_at).collect::<Vec<_>>(), [at(1), at(3), at(4)]);
    assert_eq!((listed[2].name.as_deref(), &listed[2].payload[..]), (Some("n"), &b"payload"[..]));
    assert!(timers.cancel_named("a", "n").unwrap());
    assert_eq!(timers.cancel_all("a").unwrap(), 2);
    assert_eq!((timers.cancel_all("a").unwrap(), timers.len()), (0, 1));
    assert_eq!(keys(&timers.poll_due(at(9)).unwrap()), ["b"]);
    assert!(!timers.cancel("b", at(1)).unwrap(), "it has fired");
    assert!(timers.is_empty() && timers.list("b").unwrap().is_empty());
}

#[test]
fn a_timer_fires_or_is_cancelled_and_never_both() {
    const TIMERS: i64 = 2_000;
    let timers = manual();
    let mut batch = timers.batch().unwrap();
    for time in 0..TIMERS {
        batch.schedule(time.to_string(), at(time), "").unwrap();
    }
    batch.commit().unwrap();
    let (cancelled, fired) = scope(|scope| {
        let cancels = scope.spawn(|| {
            let of = |time: &i64| timers.cancel(time.to_string(), at(*time)).unwrap();
            (0..TIMERS).filter(of).map(|time| time.to_string()).collect::<BTreeSet<_>>()
        });
        let fires = scope.spawn(|| {
            let fires = (0..TIMERS).flat_map(|time| timers.poll_due(at(time)).unwrap());
            keys(&fires.collect::<Vec<_>>())
        });
        (cancels.join().unwrap(), fires.join().unwrap())
    });
    let distinct: BTreeSet<_> = fired.iter().cloned().collect();
    assert_eq!(distinct.len(), fired.len(), "each once");
    assert!(distinct.is_disjoint(&cancelled));
    assert_eq!(distinct.len() + cancelled.len(), TIMERS as usize);
}

#[test]
fn it_survives_closing_and_an_acknowledged_fire_never_comes_again() {
    let folder = Folder::new("restart");
    let timers = TimerService::open(&folder.0).unwrap();
    let now = machine_now();
    let past = now - Duration::from_secs(1);
    for key in ["a", "b", "c"] {
        timers.schedule(key, past, key).unwrap();
    }
    let later = timers.schedule("later", now + Duration::from_hours(1), "").unwrap();
    let fires = timers.poll_due(now).unwrap();
    assert_eq!(keys(&fires), ["a", "b", "c"]);
    fires[1].ack().unwrap();
    // One process has it, and this one has it already.
    let held = TimerService::open(&folder.0).unwrap_err();
    assert!(matches!(held, Error::Directory(FolderFault::Held { .. })), "{held}");

    // With a clone and a fire still around.
    let clone = timers.clone();
    timers.close().unwrap();
    assert!(matches!(clone.next(), Err(Error::Closed)));
    assert!(matches!(clone.schedule("k", past, ""), Err(Error::Closed)));
    assert!(matches!(fires[0].ack(), Err(Error::Closed)));
    let timers = TimerService::open(&folder.0).unwrap();
    assert!(matches!(timers.ack_all(&fires), Err(Error::OtherService)));
    let again = timers.poll_due(machine_now()).unwrap();
    assert_eq!(keys(&again), ["a", "c"]);
    assert_eq!((again[0].id(), again[1].id()), (fires[0].id(), fires[2].id()));
    timers.ack_all(&again).unwrap();
    timers.ack_all(&again).unwrap();

    drop(timers);
    let timers = TimerService::open(&folder.0).unwrap();
    assert_eq!(timers.len(), 1);
    assert!(timers.poll_due(machine_now()).unwrap().is_empty());
    assert!(timers.exists("later", later.fire_at).unwrap());
    assert_eq!(timers.len(), 1);

    drop(timers);
    let refused = Options::new().manual_clock().open(&folder.0).unwrap_err();
    assert!(matches!(refused, Error::OtherClock { asked_manual: true }), "{refused}");
    TimerService::open(&folder.0).expect("and the directory was left");
}

#[test]
fn a_manual_clock_stands_where_it_stood() {
    let folder = Folder::new("manual");
    let options = Options::new().manual_clock();
    let timers = options.open(&folder.0).unwrap();
    timers.poll_due(at(1_000)).unwrap();
    timers.schedule("a", Duration::from_millis(10), "").unwrap();
    drop(timers);
    let timers = options.open(&folder.0).unwrap();
    timers.schedule("b", Duration::from_millis(9), "").unwrap();
    assert_eq!(keys(&timers.poll_due(at(1_010)).unwrap()), ["b", "a"]);
}

#[test]
fn several_threads_share_the_fires_and_none_is_lost_or_doubled() {
    const TIMERS: usize = 3_000;
    let folder = Folder::new("threads");
    let timers = TimerService::open(&folder.0).unwrap();
    let (handled, handling) = mpsc::channel();
    scope(|scope| {
        for _ in 0..3 {
            let handled = handled.clone();
            let fires = timers.fires();
            scope.spawn(move || {
                for fire in fires {
                    let fire = fire.unwrap();
                    // Closing works off what was submitted: nobody has to wait for the answer.
                    drop(fire.submit_ack());
                    handled.send(keys(std::slice::from_ref(&fire)).remove(0)).unwrap();
                }
            });
        }
        for part in 0..3 {
            let timers = &timers;
            scope.spawn(move || {
                for number in (part..TIMERS).step_by(300) {
                    let mut batch = timers.batch().unwrap();
                    for number in (number..number + 300).step_by(3).filter(|it| *it < TIMERS) {
                        let after = Duration::from_millis(number as u64 % 7);
                        batch.schedule(number.to_string(), after, "").unwrap();
                    }
                    assert!(batch.commit().unwrap().iter().all(Result::is_ok));
                }
            });
        }
        let mut seen = BTreeSet::new();
        while seen.len() < TIMERS {
            let key = handling.recv_timeout(LONG).expect("none is lost");
            assert!(seen.insert(key), "each once");
        }
        timers.close().unwrap();
    });
    drop(handled);
    assert_eq!(handling.iter().count(), 0);
    let timers = TimerService::open(&folder.0).unwrap();
    assert_eq!(timers.poll_due(machine_now()).unwrap().len(), 0, "all are acknowledged");
}

#[test]
fn whoever_waits_is_told_of_the_end_and_of_what_is_handed_out_again() {
    let timers = manual();
    timers.schedule("k", at(1), "").unwrap();
    let first = timers.poll_due(at(1)).unwrap();
    scope(|scope| {
        let waiting = scope.spawn(|| timers.next());
        timers.redeliver().unwrap();
        assert_eq!(waiting.join().unwrap().unwrap().id(), first[0].id());
        first[0].ack().unwrap();
        timers.redeliver().unwrap();
        assert!(timers.try_next().unwrap().is_none());
        let waiting = scope.spawn(|| timers.next());
        timers.close().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Closed)));
    });
    assert!(timers.fires().next().is_none());
    assert!(timers.next_timeout(LONG).is_err(), "it does not wait");
}

#[test]
fn a_stream_is_woken_and_loses_nothing_when_it_is_not_polled_to_its_end() {
    let timers = manual();
    let mut stream = timers.stream();
    let parker = Arc::<Parker>::default();
    let waker = Waker::from(Arc::clone(&parker));
    let mut context = Context::from_waker(&waker);
    assert!(Pin::new(&mut stream).poll_next(&mut context).is_pending());
    assert!(std::pin::pin!(stream.next()).as_mut().poll(&mut context).is_pending());
    timers.schedule("k", at(1), "").unwrap();
    timers.advance(at(1)).unwrap();
    parker.park(None);
    let fire = park::block_on(stream.next()).unwrap().unwrap();
    assert_eq!(fire.key(), b"k");
    park::block_on(fire.submit_ack()).unwrap();
    timers.close().unwrap();
    assert!(park::block_on(stream.next()).is_none());
}

#[test]
fn what_is_wrong_is_named_and_harms_nothing_else() {
    let timers = manual();
    let field = |error: Error| match error {
        Error::Rejected(rejection) => rejection.field().unwrap_or_default().to_owned(),
        other => panic!("{other}"),
    };
    assert_eq!(field(timers.schedule("", at(1), "").unwrap_err()), "key");
    assert_eq!(field(timers.schedule_named("k", "", at(1), "").unwrap_err()), "name");
    let large = vec![0; (1 << 20) + 1];
    assert_eq!(field(timers.schedule("k", at(1), &large).unwrap_err()), "payload");
    let mut batch = timers.batch().unwrap();
    batch.schedule("a", at(1), &large[1..]).unwrap();
    assert_eq!(field(batch.schedule("", at(1), "").unwrap_err()), "key");
    batch.schedule("b", at(1), "").unwrap();
    assert_eq!(batch.commit().unwrap().len(), 2);
    assert_eq!(timers.poll_due(at(1)).unwrap()[0].payload().len(), 1 << 20);
}

#[test]
fn a_disk_that_fails_is_told_to_all_who_wait() {
    let disk = MemoryDisk::default();
    let storage = StorageOptions {
        checkpoint_interval_ms: 0,
        ..StorageOptions::new(Arc::new(disk.clone()), Arc::new(MemoryStore::new()))
    };
    let timers =
        Options::new().start(Some(storage), Arc::new(SystemClock)).expect("the disk works");
    scope(|scope| {
        let waiting = scope.spawn(|| timers.next());
        for call in 0..100 {
            disk.fail_at(call, Failure::Error(ErrorKind::Other));
        }
        // It may be a background thread that meets the failure first.
        let failed = timers.schedule("k", Duration::from_hours(1), "").unwrap_err();
        assert!(matches!(failed, Error::Unanswered | Error::Failed { .. }), "{failed}");
        match waiting.join().unwrap() {
            Err(Error::Failed { detail }) => assert!(!detail.is_empty()),
            other => panic!("{other:?}"),
        }
    });
    assert!(matches!(timers.close(), Err(Error::Failed { .. })));
}

#[test]
fn what_is_acknowledged_leaves_memory() {
    let timers = manual();
    let mut batch = timers.batch().unwrap();
    for number in 0..100 {
        batch.schedule(number.to_string(), at(number), vec![0; 10_000]).unwrap();
    }
    batch.commit().unwrap();
    let fires = timers.poll_due(at(100)).unwrap();
    let bytes = || timers.core().engine().unwrap().outputs().len_bytes();
    assert!(bytes() > 1_000_000);
    timers.ack_all(&fires).unwrap();
    assert_eq!(bytes(), 0);
}

#[test]
fn system_times_become_milliseconds_and_a_deadline_is_never_early() {
    let check = |nanos: i64, time: i64, deadline: i64| {
        let duration = Duration::from_nanos(nanos.unsigned_abs());
        let epoch = SystemTime::UNIX_EPOCH;
        let system = if nanos < 0 { epoch - duration } else { epoch + duration };
        assert_eq!(Timestamp::from(system), at(time), "{nanos}");
        assert_eq!(When::from(system), When::At(at(deadline)), "{nanos}");
    };
    check(0, 0, 0);
    check(1, 0, 1);
    check(999_999, 0, 1);
    check(1_000_000, 1, 1);
    check(-1, -1, 0);
    check(-1_000_000, -1, -1);
    check(-1_000_001, -2, -1);
    assert_eq!(When::from(Duration::ZERO), When::After(0));
    assert_eq!(When::from(Duration::MAX), When::After(i64::MAX));
}
