//! What came out of the namespace: read from its stream as it comes, on a thread of its own, and
//! held against what must come, one value for each key.

use super::Elements;
use crate::bench::Meter;
use crate::bench::encode::key_number;
use crate::bench::ledger::Bitmap;
use crate::bench::scan::{Fields, integer, plain_text};
use crate::cli::{Client, Failure, LineBuffer, Stream};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{oneshot, watch};

/// Examples kept of what went wrong; the counts go on.
const EXAMPLES_MAX: usize = 5;

/// What the stream showed.
#[derive(Debug)]
pub(crate) struct Seen {
    keys: Bitmap,
    verdict: ElementsVerdict,
    /// Why the stream ended before it was told to.
    pub(super) broken: Option<String>,
}

/// Whether each key's first element came out, and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ElementsVerdict {
    pub(crate) ok: bool,
    /// Keys, whose first element had to come out.
    pub(crate) expected: u64,
    /// Keys of which something came out.
    pub(crate) came: u64,
    pub(crate) missing: u64,
    pub(crate) repeated: u64,
    /// Values that are not those of their key's first element.
    pub(crate) wrong: u64,
    /// Lines that are no values of this run.
    pub(crate) unknown: u64,
    pub(crate) examples: Vec<String>,
}

impl Seen {
    pub(super) fn new(keys: u64) -> Self {
        let verdict = ElementsVerdict { expected: keys, ..ElementsVerdict::default() };
        Self { keys: Bitmap::new(keys), verdict, broken: None }
    }

    /// Enters a line of the stream.
    pub(super) fn enter(&mut self, line: &[u8]) {
        let (mut key, mut value, mut is_other) = (None, None, false);
        for (name, found) in Fields::new(line) {
            match name {
                b"key" => key = plain_text(found).and_then(key_number),
                b"value" => value = Fields::new(found).find(|(name, _)| *name == b"n"),
                // A side output, or the server's reason to end the stream.
                b"tag" | b"error" => is_other = true,
                _ => {}
            }
        }
        let number = value.and_then(|(_, number)| integer(number));
        let expected = self.verdict.expected;
        let key = key.filter(|key| *key < expected && !is_other);
        let (Some(key), Some(number)) = (key, number) else {
            self.verdict.unknown += 1;
            let text = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
            return self.keep(|| format!("unknown line: {text}"));
        };
        if !self.keys.set(key) {
            self.verdict.repeated += 1;
            self.keep(|| format!("key {key} came again, with {number}"));
        } else if u64::try_from(number) != Ok(key) {
            self.verdict.wrong += 1;
            self.keep(|| format!("key {key} came with {number}, which was not its first"));
        }
    }

    /// The verdict over all that was seen.
    pub(super) fn verdict(&self) -> ElementsVerdict {
        let mut verdict = self.verdict.clone();
        verdict.came = self.keys.count();
        verdict.missing = verdict.expected - verdict.came;
        let ElementsVerdict { missing, repeated, wrong, unknown, .. } = verdict;
        verdict.ok = missing + repeated + wrong + unknown == 0;
        if let Some(key) = self.keys.first_clear(verdict.expected) {
            verdict.examples.push(format!("key {key} is missing"));
        }
        verdict
    }

    fn keep(&mut self, example: impl FnOnce() -> String) {
        if self.verdict.examples.len() < EXAMPLES_MAX {
            self.verdict.examples.push(example());
        }
    }

    async fn read(
        mut self,
        mut stream: Stream,
        mut stopped: watch::Receiver<bool>,
        meter: &Meter,
    ) -> Self {
        let (mut lines, mut count) = (LineBuffer::default(), 0);
        while self.broken.is_none() {
            let frame = tokio::select! {
                frame = stream.frame() => frame,
                _ = stopped.changed() => break,
            };
            match frame {
                Ok(Some(piece)) => {
                    let is_sound = lines.feed(&piece, |line| {
                        count += 1;
                        self.enter(line);
                    });
                    if !is_sound {
                        self.broken = Some("a line without end".to_owned());
                    }
                }
                Ok(None) => self.broken = Some("the server ended the stream".to_owned()),
                Err(failure) => self.broken = Some(failure.to_string()),
            }
            meter.fired.store(count, Ordering::Relaxed);
        }
        self
    }
}

/// A stream that is being read.
pub(super) struct Reading {
    stop: watch::Sender<bool>,
    done: oneshot::Receiver<Seen>,
}

impl Reading {
    /// Opens the stream of the namespace, from its beginning; it is open when this returns.
    pub(super) async fn start(
        client: &Client,
        plan: &Elements,
        meter: Arc<Meter>,
    ) -> Result<Self, Failure> {
        let (stop, stopped) = watch::channel(false);
        let (done_sender, done) = oneshot::channel();
        let (ready_sender, ready) = oneshot::channel();
        let (client, seen) = (client.clone(), Seen::new(plan.keys));
        let path = format!("/v1/namespaces/{}/outputs", plan.namespace);
        super::super::spawn_runtime("bench-consumer", move || async move {
            match client.open(&path).await {
                Ok(stream) => {
                    drop(ready_sender.send(Ok(())));
                    drop(done_sender.send(seen.read(stream, stopped, &meter).await));
                }
                Err(failure) => drop(ready_sender.send(Err(failure))),
            }
        })?;
        ready.await.map_err(|_| Failure::Failed("the consumer's thread ended".to_owned()))??;
        Ok(Self { stop, done })
    }

    /// Whether it still reads; it ends early only if the stream does.
    pub(super) fn is_under_way(&self) -> bool {
        !self.stop.is_closed()
    }

    /// Stops reading.
    pub(super) async fn finish(self) -> Result<Seen, Failure> {
        // Nobody hears it if the thread has ended already.
        self.stop.send_replace(true);
        self.done.await.map_err(|_| Failure::Failed("the consumer's thread ended".to_owned()))
    }
}
