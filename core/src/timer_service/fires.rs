//! Fires as they come: an iterator for threads, a stream for async code.

use super::consumers::Consumer;
use super::{Error, Fire, TimerService};
use futures_core::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

/// All fires of a service as they come. It ends once the service is closed, and keeps it open as a
/// clone does.
///
/// ```
/// # use std::time::Duration;
/// # let timers = stormwheel::TimerService::in_memory()?;
/// # timers.schedule("k", Duration::ZERO, "")?;
/// for fire in timers.fires() {
///     let fire = fire?;
///     // ... do what there is to do, then:
///     fire.ack()?;
///     # timers.close()?;
/// }
/// # Ok::<(), stormwheel::timer_service::Error>(())
/// ```
pub struct Fires {
    service: TimerService,
}

/// The same for async code: a [`Stream`], with a [`FireStream::next`] for those who need no more.
///
/// ```
/// # use std::time::Duration;
/// # use stormwheel::timer_service::Error;
/// # async fn run() -> Result<(), Error> {
/// let timers = stormwheel::TimerService::in_memory()?;
/// let mut batch = timers.batch()?;
/// batch.schedule("order-17", Duration::from_millis(5), "")?;
/// batch.submit().await?;
///
/// let mut fires = timers.stream();
/// while let Some(fire) = fires.next().await {
///     let fire = fire?;
///     assert_eq!(fire.key(), b"order-17");
///     fire.submit_ack().await?;
///     # break;
/// }
/// # Ok(())
/// # }
/// # struct Unpark(std::thread::Thread);
/// # impl std::task::Wake for Unpark {
/// #     fn wake(self: std::sync::Arc<Self>) { self.0.unpark() }
/// # }
/// # let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
/// # let mut run = std::pin::pin!(run());
/// # loop {
/// #     match run.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
/// #         std::task::Poll::Ready(done) => break done,
/// #         std::task::Poll::Pending => std::thread::park(),
/// #     }
/// # }
/// # .unwrap();
/// ```
pub struct FireStream {
    service: TimerService,
    consumer: Consumer,
}

impl Fires {
    pub(super) const fn new(service: TimerService) -> Self {
        Self { service }
    }
}

impl Iterator for Fires {
    type Item = Result<Fire, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.service.next() {
            Err(Error::Closed) => None,
            fire => Some(fire),
        }
    }
}

impl FireStream {
    pub(super) fn new(service: TimerService) -> Self {
        let consumer = service.core().join();
        Self { service, consumer }
    }

    /// The next fire; none once the service is closed. Dropped before it is ready, it loses nothing.
    pub async fn next(&mut self) -> Option<Result<Fire, Error>> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for FireStream {
    type Item = Result<Fire, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.service.core().poll_next(&self.consumer, context)
    }
}

impl std::fmt::Debug for Fires {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fires").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for FireStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FireStream").finish_non_exhaustive()
    }
}
