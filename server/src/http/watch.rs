//! Watches over the time that a connection takes, from below hyper, and puts hyper's own bare
//! refusals in words ([`super::refusal`]).
//!
//! One sleeping timer for each connection, not one for each request: deadlines move by writing down
//! a moment, and the timer, when it comes up, looks whether the deadline really passed and else
//! sleeps on. That bounds a head that dribbles in, a connection that stays silent, and a client
//! that does not read its answer, for the price of one clock reading a wait. (hyper's own header
//! timeout would make a timer for each request and count the silence between two as well.)

use super::refusal::in_words;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

const STATE: u32 = 0b11;
const WAITING: u32 = 0;
const ANSWERING: u32 = 1;
const STREAMING: u32 = 2;
const ONE_REQUEST: u32 = STATE + 1;

/// What a connection is busy with: a state, and above it the number of requests so far.
///
/// Set by the service and read by the watch, both in the one task of the connection; it is atomic
/// only because the types ask for it.
#[derive(Debug, Default)]
pub(crate) struct Phase(AtomicU32);

impl Phase {
    /// A request's head is complete, its answer is on the way.
    pub(crate) fn answering(&self) {
        let requests = self.0.load(Ordering::Relaxed) & !STATE;
        self.0.store(requests.wrapping_add(ONE_REQUEST) | ANSWERING, Ordering::Relaxed);
    }

    /// The answer is a stream: its reader may take its time.
    pub(crate) fn streaming(&self) {
        self.set_state(STREAMING);
    }

    /// Whether the answer is a stream.
    pub(crate) fn is_streaming(&self) -> bool {
        self.0.load(Ordering::Relaxed) & STATE == STREAMING
    }

    /// The answer is out; the next head may come.
    pub(crate) fn waiting(&self) {
        self.set_state(WAITING);
    }

    fn set_state(&self, state: u32) {
        let requests = self.0.load(Ordering::Relaxed) & !STATE;
        self.0.store(requests | state, Ordering::Relaxed);
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the first byte of a head to its last, and from the opening to the first head.
    pub header: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Without an answer's bytes being taken.
    pub write: Duration,
}

/// What the client owes, and since when.
#[derive(Debug, Clone, Copy)]
enum Owed {
    Nothing,
    Head(Instant),
    Request(Instant),
}

/// A connection with its deadlines.
#[derive(Debug)]
pub(super) struct Watched<T> {
    inner: T,
    timer: Pin<Box<Sleep>>,
    phase: Arc<Phase>,
    patience: Patience,
    owed: Owed,
    requests_seen: u32,
    unread_since: Option<Instant>,
    /// A refusal that is being written in place of hyper's.
    refusal: Vec<u8>,
}

impl<T> Watched<T> {
    /// Watches over a connection that was just opened.
    pub(super) fn new(inner: T, phase: Arc<Phase>, patience: Patience) -> Self {
        let now = Instant::now();
        Self {
            inner,
            timer: Box::pin(tokio::time::sleep_until(now + patience.header)),
            phase,
            patience,
            owed: Owed::Head(now),
            requests_seen: 0,
            unread_since: None,
            refusal: Vec::new(),
        }
    }

    /// The state that the service is in. A request that began settles what was owed before it.
    fn state(&mut self) -> u32 {
        let phase = self.phase.0.load(Ordering::Relaxed);
        if phase & !STATE != self.requests_seen {
            self.requests_seen = phase & !STATE;
            self.owed = Owed::Nothing;
        }
        phase & STATE
    }

    /// Notes what a look for bytes found: whether some came.
    fn note_read(&mut self, bytes_came: bool) {
        if self.state() != WAITING {
            self.owed = Owed::Nothing;
            return;
        }
        self.owed = match (self.owed, bytes_came) {
            (Owed::Head(since), _) => Owed::Head(since),
            (Owed::Nothing | Owed::Request(_), true) => Owed::Head(Instant::now()),
            (Owed::Request(since), false) => Owed::Request(since),
            (Owed::Nothing, false) => Owed::Request(Instant::now()),
        };
    }

    /// Notes whether the answer's bytes are being taken.
    fn note_write(&mut self, stuck: bool) {
        let streaming = self.state() == STREAMING;
        self.unread_since = if stuck && !streaming {
            self.unread_since.or_else(|| Some(Instant::now()))
        } else {
            None
        };
    }

    /// Ready once the deadline of what the client owes has passed.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let (deadline, what) = match (self.unread_since, self.owed) {
            (Some(since), _) => (since + self.patience.write, "the answer was not read"),
            (None, Owed::Head(since)) => {
                (since + self.patience.header, "the head of a request was not complete")
            }
            (None, Owed::Request(since)) => (since + self.patience.idle, "no request came"),
            (None, Owed::Nothing) => return Poll::Pending,
        };
        loop {
            // A timer that comes up early is good for another look; a late one would not be.
            if self.timer.deadline() > deadline {
                self.timer.as_mut().reset(deadline);
            }
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, what));
            }
            self.timer.as_mut().reset(deadline);
        }
    }

    fn or_deadline<R>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        match polled {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.poll_deadline(cx).map(Err),
        }
    }
}

impl<T: AsyncWrite + Unpin> Watched<T> {
    /// If these bytes are a bare refusal, writes one in words in their place: ready with how many of
    /// them are settled. `None`: they are to be written as they are.
    fn poll_refuse(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Option<Poll<io::Result<usize>>> {
        if self.refusal.is_empty() {
            self.refusal = in_words(bytes)?;
        }
        while !self.refusal.is_empty() {
            match Pin::new(&mut self.inner).poll_write(cx, &self.refusal) {
                Poll::Pending => return Some(Poll::Pending),
                Poll::Ready(Ok(0)) => {
                    return Some(Poll::Ready(Err(io::ErrorKind::WriteZero.into())));
                }
                Poll::Ready(Ok(written)) => drop(self.refusal.drain(..written)),
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
            }
        }
        Some(Poll::Ready(Ok(bytes.len())))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buffer);
        this.note_read(polled.is_ready());
        this.or_deadline(cx, polled)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = match this.poll_refuse(cx, bytes) {
            Some(refused) => refused,
            None => Pin::new(&mut this.inner).poll_write(cx, bytes),
        };
        this.note_write(polled.is_pending());
        this.or_deadline(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // hyper's own refusal is a head alone, and so the first of the slices.
        let first = slices.first().map_or(&[][..], |slice| slice);
        let polled = match this.poll_refuse(cx, first) {
            Some(refused) => refused,
            None => Pin::new(&mut this.inner).poll_write_vectored(cx, slices),
        };
        this.note_write(polled.is_pending());
        this.or_deadline(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    const PATIENCE: Patience = Patience {
        header: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        write: Duration::from_mins(1),
    };

    fn connection() -> (DuplexStream, Watched<DuplexStream>, Arc<Phase>) {
        let (client, server) = tokio::io::duplex(64);
        let phase = Arc::new(Phase::default());
        (client, Watched::new(server, phase.clone(), PATIENCE), phase)
    }

    async fn read_until_error(watched: &mut Watched<DuplexStream>) -> (Duration, io::Error) {
        let start = Instant::now();
        let mut byte = [0];
        loop {
            if let Err(error) = watched.read_exact(&mut byte).await {
                return (start.elapsed(), error);
            }
        }
    }

    fn check_timed_out(found: &(Duration, io::Error), after: Duration, part: &str) {
        assert_eq!(found.1.kind(), io::ErrorKind::TimedOut);
        assert!(found.1.to_string().contains(part), "{}", found.1);
        // The timer of a paused clock comes up to the millisecond.
        assert!(found.0 >= after && found.0 < after + Duration::from_millis(10), "{:?}", found.0);
    }

    #[tokio::test]
    async fn a_bare_refusal_is_put_in_words_however_slowly_it_is_taken() {
        // The pipe holds 64 bytes: the refusal goes through it in pieces.
        let (mut client, mut watched, _phase) = connection();
        let bare = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let write = tokio::spawn(async move {
            watched.write_all(bare).await.unwrap();
            watched.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        });
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        write.await.unwrap();
        assert!(text.starts_with("HTTP/1.1 400 Refused\r\n"), "{text}");
        assert!(text.contains("malformed-request"), "{text}");
        assert!(text.ends_with("}HTTP/1.1 200 OK\r\n\r\n"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_closed() {
        let (_client, mut watched, _phase) = connection();
        check_timed_out(&read_until_error(&mut watched).await, PATIENCE.header, "head");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dribbling_head_does_not_move_its_deadline() {
        let (mut client, mut watched, _phase) = connection();
        let dribble = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        check_timed_out(&read_until_error(&mut watched).await, PATIENCE.header, "head");
        dribble.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_after_its_own_time() {
        let (mut client, mut watched, phase) = connection();
        client.write_all(b"x").await.unwrap();
        watched.read_exact(&mut [0]).await.unwrap();
        phase.answering();
        phase.waiting();
        check_timed_out(&read_until_error(&mut watched).await, PATIENCE.idle, "no request");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_head_has_a_deadline_of_its_own() {
        let (mut client, mut watched, phase) = connection();
        client.write_all(b"x").await.unwrap();
        watched.read_exact(&mut [0]).await.unwrap();
        phase.answering();
        phase.waiting();
        client.write_all(b"y").await.unwrap();
        check_timed_out(&read_until_error(&mut watched).await, PATIENCE.header, "head");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_answer_has_no_deadline_for_reading() {
        let (mut client, mut watched, phase) = connection();
        phase.answering();
        let late = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1_000)).await;
            client.write_all(b"x").await.unwrap();
            client
        });
        assert_eq!(watched.read_u8().await.unwrap(), b'x');
        late.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_read_is_given_up_and_a_stream_is_not() {
        let (_client, mut watched, phase) = connection();
        phase.answering();
        let error = watched.write_all(&[0; 1_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let (_client, mut watched, phase) = connection();
        phase.answering();
        phase.streaming();
        let written =
            tokio::time::timeout(Duration::from_secs(100_000), watched.write_all(&[0; 1_000]));
        assert!(written.await.is_err(), "it waits as long as it takes");
    }
}
