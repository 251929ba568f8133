//! What this process has used so far, and on what it runs.

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// CPU seconds of the calling thread.
pub fn cpu_seconds() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

/// Seconds of the clock on the wall, from some beginning.
pub fn wall_seconds() -> f64 {
    seconds(ClockId::Monotonic)
}

/// Bytes of this process that are resident.
pub fn resident_bytes() -> usize {
    const PAGE_BYTES: usize = 4_096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}

/// What a figure was measured on, and when.
pub fn machine() -> Value {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names: Vec<&str> = cpus
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, name)| name)
        .collect();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "cores": names.len(), "cpu": names.first(), "kernel": kernel.trim(),
        "taken": seconds(ClockId::Realtime) as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_there_and_grow() {
        let before = resident_bytes();
        assert!(before > 0);
        let held = vec![1u8; 64 << 20];
        // Beside it other tests take memory and give it back.
        assert!(resident_bytes() > 60 << 20, "{}", held.len());
        assert!(cpu_seconds() > 0.0);
        assert!(wall_seconds() > 0.0);
        assert!(machine()["taken"].as_u64() > Some(1_767_225_600));
    }
}
