//! The word that the service stops, said once and heard by all that wait.

use tokio::sync::watch;

/// Hears that the service stops.
#[derive(Debug, Clone)]
pub(crate) struct Stopping(watch::Receiver<bool>);

/// Says that the service stops.
#[derive(Debug)]
pub(crate) struct StopSwitch(watch::Sender<bool>);

impl StopSwitch {
    /// A switch, and what hears it.
    pub(crate) fn new() -> (Self, Stopping) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Stopping(receiver))
    }

    /// Says so.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stopping {
    /// Whether it was said. A switch that is gone means the same.
    pub(crate) fn is_said(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits until it is said.
    pub(crate) async fn wait(&mut self) {
        // An error is a switch that is gone. The guard must not live on: it would hold a lock.
        drop(self.0.wait_for(|stop| *stop).await);
    }
}
