//! `POST …/elements`: many elements in one request, as NDJSON lines or as an Arrow stream.
//!
//! The body is read whole, and all of it is understood, before anything is carried out; then it goes
//! ahead in its order. A watermark keeps its place: what stands before it has been applied before its
//! source moves, and what stands behind waits for that. So if load refuses an element, the watermark
//! behind it stays where it is, and all the rest is refused alike: it would make late what is sent
//! again.

use super::app::{Exchange, ask, try_ask};
use super::batch::told;
use super::kinds::query_problem;
use super::manners::Media;
use super::watermarks::time_json;
use crate::wire::arrow::{push_elements, push_groups};
use crate::wire::elements::{ElementSink, Elements, Intake, Told, refused};
use crate::wire::problem::{Problem, kinds};
use axum::body::Body;
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use std::iter::repeat_n;
use std::sync::Arc;
use stormwheel::error::Rejection;
use stormwheel::namespace::{
    Command, CommandReply, NamespaceStatus, SourceChange, SourceResult, is_identifier,
};
use stormwheel::op::{Op, Outcome};
use stormwheel::runtime::{Batch, NamespaceEntry};
use stormwheel::time::Timestamp;

/// The source of a request that names none.
const SOURCE_DEFAULT: &str = "default";
/// Watermarks in one body that move their source; each takes a turn of its own. The next one is an
/// error, and so is what follows.
const WATERMARKS_MAX: usize = 1_000;

/// Takes a body of elements.
pub(super) async fn run(mut exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let namespace = exchange.namespace()?;
    if !namespace.config.runs_function() {
        return Err(Rejection::ElementsUnwanted.into());
    }
    let source = exchange.query.text("source").unwrap_or(SOURCE_DEFAULT).to_owned();
    if !is_identifier(&source) {
        let what = "is no name: a source is named [A-Za-z0-9][A-Za-z0-9._-]{0,127}";
        return Err(query_problem("source", what));
    }
    let media = exchange.head.body_media(exchange.bound.route.reads.media())?;
    let body = exchange.read_body().await?;
    namespace.check_open()?;
    let mut found = read(&exchange, &namespace, media, &body, None)?;
    if found.is_none() {
        let untimed = Some(untimed(&exchange, &namespace).await?);
        found = read(&exchange, &namespace, media, &body, untimed)?;
    }
    let Some((elements, script)) = found else {
        return Err(Problem::new(&kinds::INTERNAL, "the elements were not read"));
    };
    drop(body);
    let Carried { outcomes, moved } = carry_out(&exchange, &namespace, &source, script).await?;
    let watermark = moved.map(|moved| moved.json(&exchange, &source).to_string());
    let rendered = elements.render(&outcomes, watermark.as_deref());
    Ok(exchange.acknowledged(told(rendered, Media::Json)))
}

/// Understands a body. `None`: an element has no timestamp, and `untimed` has to say what then.
fn read<'a>(
    exchange: &'a Exchange<'_>,
    namespace: &'a Arc<NamespaceEntry>,
    media: Media,
    body: &Bytes,
    untimed: Option<Result<Timestamp, Problem>>,
) -> Result<Option<(Elements, Script<'a>)>, Problem> {
    let mut intake = Intake::new(Script::new(exchange, namespace)?, untimed);
    let is_grouped = exchange.query.text("group").is_some();
    let elements = match media {
        Media::Arrow if is_grouped => push_groups(body, &mut intake)?,
        Media::Arrow => push_elements(body, &mut intake)?,
        _ if is_grouped => {
            let what = "puts the rows of an Arrow stream together; for lines, write a list of rows \
                        as the value of one element";
            return Err(query_problem("group", what));
        }
        _ => intake.read_lines(body),
    };
    Ok(elements.map(|elements| (elements, intake.sink)))
}

/// What elements without a timestamp get: the namespace's now. Where there is event time, they have
/// to say when they happened.
pub(super) async fn untimed(
    exchange: &Exchange<'_>,
    namespace: &Arc<NamespaceEntry>,
) -> Result<Result<Timestamp, Problem>, Problem> {
    let status: NamespaceStatus =
        try_ask(|reply| exchange.app.engine.describe(namespace, reply)).await?;
    let watermark = &namespace.config.watermark;
    let has_event_time =
        status.watermark.is_some() || watermark.delay_ms.is_some() || !watermark.sources.is_empty();
    if has_event_time {
        let detail = "the namespace has event time, so an element has to say when it happened: \
                      `timestamp`";
        return Ok(Err(Problem::new(&kinds::MISSING_FIELD, detail).field("timestamp")));
    }
    Ok(status.now.ok_or_else(|| {
        let detail = "the element has no timestamp, and the namespace's manual clock was not set \
                      yet, which would give it one";
        Problem::new(&kinds::CLOCK_UNSET, detail).field("timestamp")
    }))
}

/// What a body asks for, in its order.
struct Script<'a> {
    exchange: &'a Exchange<'a>,
    namespace: &'a Arc<NamespaceEntry>,
    steps: Vec<Step>,
    /// Operations in the steps before the last.
    pushed: u32,
    watermarks: usize,
}

enum Step {
    Elements {
        batch: Batch,
        /// When they happened, if that moves the source.
        timestamps: Vec<Timestamp>,
    },
    Watermark {
        to: Timestamp,
        /// How many lines said so, or said less right behind it.
        lines: usize,
    },
}

impl<'a> Script<'a> {
    fn new(
        exchange: &'a Exchange<'_>,
        namespace: &'a Arc<NamespaceEntry>,
    ) -> Result<Self, Problem> {
        let it = Self { exchange, namespace, steps: Vec::new(), pushed: 0, watermarks: 0 };
        // What is wrong with the marks is wrong with the request.
        it.batch().map(|_| it)
    }

    /// An empty batch for what follows.
    fn batch(&self) -> Result<Batch, Problem> {
        let mut batch = self.exchange.app.engine.batch(self.namespace);
        self.exchange.mark(&mut batch)?;
        batch.goes_on_after(self.pushed);
        Ok(batch)
    }

    fn check_full(&self) -> Result<(), Problem> {
        if self.watermarks <= WATERMARKS_MAX {
            return Ok(());
        }
        let detail = format!(
            "there are more than {WATERMARKS_MAX} watermarks; the rest from there on was not carried \
             out"
        );
        Err(Problem::new(&kinds::TOO_MANY_OPERATIONS, detail)
            .bound(WATERMARKS_MAX as u64, self.watermarks as u64))
    }
}

impl ElementSink for Script<'_> {
    fn push(&mut self, op: &Op<'_>, timestamp: Timestamp) -> Result<(), Problem> {
        self.check_full()?;
        if !matches!(self.steps.last(), Some(Step::Elements { .. })) {
            let step = Step::Elements { batch: self.batch()?, timestamps: Vec::new() };
            self.steps.push(step);
        }
        if let Some(Step::Elements { batch, timestamps }) = self.steps.last_mut() {
            let pushed = batch.push(op);
            self.pushed = batch.pushed();
            pushed.map_err(refused)?;
            if self.namespace.config.watermark.delay_ms.is_some() {
                timestamps.push(timestamp);
            }
        }
        Ok(())
    }

    fn watermark(&mut self, to: Timestamp) -> Result<(), Problem> {
        if let Some(Step::Watermark { to: before, lines }) = self.steps.last_mut()
            && to <= *before
        {
            // It would be ignored. A later one is not: callbacks see the watermark that fires them.
            *lines += 1;
            return Ok(());
        }
        self.watermarks += 1;
        self.check_full()?;
        self.steps.push(Step::Watermark { to, lines: 1 });
        Ok(())
    }
}

/// What came of a script.
struct Carried {
    outcomes: Vec<Result<Told, Rejection>>,
    moved: Option<Moved>,
}

/// What became of the source.
enum Moved {
    To { result: SourceResult, watermark: Option<Timestamp> },
    Refused(Rejection),
}

impl Moved {
    fn json(self, exchange: &Exchange<'_>, source: &str) -> Value {
        match self {
            Self::To { result, watermark } => json!({
                "source": source,
                "result": result.as_str(),
                "watermark": time_json(watermark, exchange.query.time_format()),
            }),
            Self::Refused(rejection) => {
                let error: Option<Value> =
                    serde_json::from_slice(&Problem::from(rejection).to_json()).ok();
                json!({ "source": source, "error": error })
            }
        }
    }
}

async fn carry_out(
    exchange: &Exchange<'_>,
    namespace: &NamespaceEntry,
    source: &str,
    script: Script<'_>,
) -> Result<Carried, Problem> {
    let engine = &exchange.app.engine;
    let (mut outcomes, mut moved) = (Vec::new(), None);
    // Once something is refused in this way, or the source does not move, nothing more is taken.
    let mut stopped: Option<Rejection> = None;
    for step in script.steps {
        let (to, lines) = match step {
            Step::Elements { batch, .. } if let Some(rejection) = &stopped => {
                outcomes.extend(repeat_n(Err(rejection.clone()), batch.len()));
                continue;
            }
            Step::Watermark { lines, .. } if let Some(rejection) = &stopped => {
                outcomes.extend(repeat_n(Err(rejection.clone()), lines));
                continue;
            }
            Step::Elements { batch, timestamps } => {
                if batch.is_empty() {
                    continue;
                }
                let answers: Vec<Outcome> = ask(|reply| engine.submit(batch, reply)).await?;
                stopped = end_of(&answers);
                let newest = newest(&answers, &timestamps);
                let taken = answers
                    .into_iter()
                    .map(|answer| answer.map(|applied| Told::Element(applied.result)));
                if outcomes.is_empty() {
                    outcomes = taken.collect();
                } else {
                    outcomes.extend(taken);
                }
                let to = newest.and_then(|newest| namespace.config.watermark.after(newest));
                match to.filter(|_| stopped.is_none()) {
                    Some(to) => (to, 0),
                    None => continue,
                }
            }
            Step::Watermark { to, lines } => (to, lines),
        };
        let change = SourceChange::Watermark(to);
        let command = Command::Source { source: source.to_owned(), change };
        let name = &namespace.name;
        let answer = ask(|reply| engine.command(name, command, false, reply)).await?;
        let outcome = match answer {
            Ok(CommandReply::Source { result, watermark, .. }) => {
                moved = Some(Moved::To { result, watermark });
                Ok(Told::Watermark)
            }
            Ok(_) => return Err(super::namespaces::misanswered()),
            Err(rejection) => {
                moved = Some(Moved::Refused(rejection.clone()));
                stopped = Some(rejection.clone());
                Err(rejection)
            }
        };
        outcomes.extend(repeat_n(outcome, lines));
    }
    Ok(Carried { outcomes, moved })
}

/// The first refusal behind which nothing goes on: by load, or the namespace has stopped (and what was
/// refused would be late behind a watermark), or it is closed or gone (and one that has taken its name
/// meanwhile has nothing to do with this).
fn end_of(answers: &[Outcome]) -> Option<Rejection> {
    let mut refusals = answers.iter().filter_map(|answer| answer.as_ref().err());
    let ends = |rejection: &&Rejection| {
        matches!(
            rejection,
            Rejection::NamespaceUnknown
                | Rejection::NamespaceClosed
                | Rejection::NamespaceStopped { .. }
        ) || kinds::of_rejection(rejection).is_load()
    };
    refusals.find(ends).cloned()
}

/// The newest of the elements that were taken: what was refused moves no time.
fn newest(answers: &[Outcome], timestamps: &[Timestamp]) -> Option<Timestamp> {
    let taken = answers.iter().zip(timestamps).filter(|(answer, _)| answer.is_ok());
    taken.map(|(_, timestamp)| *timestamp).max()
}
