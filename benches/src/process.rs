//! What this process has used so far.

use rustix::time::{ClockId, clock_gettime};

/// CPU seconds of the calling thread.
pub fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Bytes of this process that are resident.
pub fn resident_bytes() -> usize {
    const PAGE_BYTES: usize = 4_096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
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
    }
}
