//! An endless answer: whatever the log gets, as it comes, with a sign of life when nothing does.

use super::{Found, READ_BYTES, Reader, last_words};
use crate::http::stopping::Stopping;
use crate::http::watch::Phase;
use bytes::Bytes;
use http_body::{Body, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use stormwheel::runtime::Waiter;
use tokio::time::{Instant, Sleep};

/// Silence after which a sign of life is sent.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);
/// Looks into the log, none of which found anything to send, before others get their turn.
const LOOKS_MAX: u32 = 16;

/// Marks an answer as a stream, so that its connection is watched over as one; when the stream
/// ends, the connection waits for the next request like any other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streaming(Arc<OnceLock<Arc<Phase>>>);

impl Streaming {
    /// The connection begins to send the stream.
    pub(crate) fn begin(&self, phase: &Arc<Phase>) {
        phase.streaming();
        // An answer goes out on one connection only, so this is the first time.
        let _ = self.0.set(phase.clone());
    }

    fn end(&self) {
        if let Some(phase) = self.0.get() {
            phase.waiting();
        }
    }
}

/// The body of an endless answer.
pub(super) struct OutputStream {
    reader: Reader,
    waiter: Waiter,
    ready: Vec<u8>,
    silence: Pin<Box<Sleep>>,
    stopping: Pin<Box<dyn Future<Output = ()> + Send>>,
    streaming: Streaming,
    is_over: bool,
}

impl OutputStream {
    /// A stream from where the reader stands; `first` was read already.
    pub(super) fn new(
        reader: Reader,
        first: Vec<u8>,
        mut stopping: Stopping,
        streaming: Streaming,
    ) -> Self {
        Self {
            waiter: reader.log.waiter(reader.namespace),
            reader,
            ready: first,
            silence: Box::pin(tokio::time::sleep(SIGN_OF_LIFE)),
            stopping: Box::pin(async move { stopping.wait().await }),
            streaming,
            is_over: false,
        }
    }

    fn send(&mut self) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = Instant::now() + SIGN_OF_LIFE;
        self.silence.as_mut().reset(next);
        let bytes = Bytes::from(std::mem::take(&mut self.ready));
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    /// Reads until there is something to send; `true` once there is.
    fn fill(&mut self) -> Option<bool> {
        for _ in 0..LOOKS_MAX {
            let mut unlimited = u64::MAX;
            match self.reader.read(&mut self.ready, &mut unlimited) {
                Ok(Found::Some) if self.ready.is_empty() => {}
                Ok(Found::Some) => return Some(true),
                Ok(Found::Nothing) => return Some(false),
                Ok(Found::Ended) => {
                    self.is_over = true;
                    return Some(!self.ready.is_empty());
                }
                Err(refusal) => {
                    last_words(&self.reader, &mut self.ready, &refusal);
                    self.is_over = true;
                    return Some(true);
                }
            }
        }
        None
    }
}

impl Body for OutputStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if !this.ready.is_empty() {
            return this.send();
        }
        if this.is_over || this.stopping.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        loop {
            if this.waiter.poll_ready(this.reader.position, cx).is_pending() {
                break;
            }
            match this.fill() {
                Some(true) => return this.send(),
                Some(false) if this.is_over => return Poll::Ready(None),
                Some(false) => {}
                None => {
                    // A filter that lets nothing through would keep this worker busy for long.
                    cx.waker().wake_by_ref();
                    break;
                }
            }
        }
        if this.silence.as_mut().poll(cx).is_ready() {
            let position = this.reader.position;
            this.ready.reserve(32);
            this.reader.format.write_sign_of_life(&mut this.ready, position);
            return this.send();
        }
        Poll::Pending
    }
}

impl Drop for OutputStream {
    fn drop(&mut self) {
        self.streaming.end();
    }
}

// One look must not fill more than a few socket buffers, or a reader would hold much memory.
const _: () = assert!(READ_BYTES <= 1 << 20);
