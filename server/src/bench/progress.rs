//! The progress bar of a run, on a terminal only.

use super::Meter;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::time::Duration;

const REFRESH: Duration = Duration::from_millis(100);

/// A bar that follows the meter of a run.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Hidden unless stderr is a terminal.
    pub(crate) fn new(title: &str, operations: u64, is_wanted: bool) -> Self {
        let bar = if is_wanted && std::io::stderr().is_terminal() {
            ProgressBar::new(operations)
        } else {
            ProgressBar::hidden()
        };
        // A template that is wrong shows the default bar; that is no reason to end a run.
        if let Ok(style) = ProgressStyle::with_template(
            "{prefix:<8} [{bar:32}] {human_pos}/{human_len} answered  {msg}  {elapsed}",
        ) {
            bar.set_style(style);
        }
        bar.set_prefix(title.to_owned());
        Self { bar }
    }

    /// Follows the meter for ever; to be raced against the run.
    pub(crate) async fn follow(&self, meter: &Meter) {
        let mut ticks = tokio::time::interval(REFRESH);
        loop {
            ticks.tick().await;
            self.bar.set_position(meter.answered.load(Ordering::Relaxed));
            let fired = meter.fired.load(Ordering::Relaxed);
            self.bar.set_message(format!("{} fired", indicatif::HumanCount(fired)));
        }
    }

    /// Takes the bar off the screen.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
