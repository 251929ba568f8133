//! What became of the operations of a batch, bad ones and good ones in one order.
//!
//! Bad ones are known before the batch goes to the shards, outcomes only come back for those that
//! were pushed. Only the first [`ERRORS_TOLD_MAX`] errors of a batch are kept with all they say,
//! the others with their kind alone, so that memory does not grow with what is refused.

use super::problem::{Kind, Problem, kinds, write_brief};
use stormwheel::error::{Rejection, RejectionClass};

/// Errors of one batch that are told in full. The others name their kind only.
pub(crate) const ERRORS_TOLD_MAX: usize = 1_000;

/// Whether load is to blame and not what was asked.
fn is_load(rejection: &Rejection) -> bool {
    matches!(
        rejection.class(),
        RejectionClass::Overloaded | RejectionClass::Unavailable | RejectionClass::DiskFull
    )
}

/// The operations of a batch that failed before they went to the shards.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    by_index: Vec<(u32, Failure)>,
}

/// Why one operation failed.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// One of the first ones.
    Told(Box<Problem>),
    /// One of many.
    Brief(&'static Kind),
}

impl Failure {
    fn kind(&self) -> &'static Kind {
        match self {
            Self::Told(problem) => problem.kind,
            Self::Brief(kind) => kind,
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>, in_full: bool) {
        match self {
            Self::Told(problem) if in_full => problem.write_json(out),
            Self::Told(problem) => write_brief(out, problem.kind, problem.retry_after_ms),
            Self::Brief(kind) => write_brief(out, kind, None),
        }
    }
}

impl Failures {
    /// Notes why an operation failed; the indices rise.
    pub(crate) fn push(&mut self, index: usize, problem: Problem) {
        let failure = if self.by_index.len() < ERRORS_TOLD_MAX {
            Failure::Told(Box::new(problem))
        } else {
            Failure::Brief(problem.kind)
        };
        self.by_index.push((index as u32, failure));
    }

    /// Calls back for each of `count` operations in order, with what came of it.
    pub(crate) fn beside<T>(
        &self,
        count: usize,
        outcomes: &[Result<T, Rejection>],
        mut each: impl FnMut(usize, Result<&T, &Failure>),
    ) {
        let mut failures = self.by_index.iter().peekable();
        let mut outcomes = outcomes.iter();
        for index in 0..count {
            if let Some((_, failure)) = failures.next_if(|(at, _)| *at as usize == index) {
                each(index, Err(failure));
                continue;
            }
            match outcomes.next() {
                Some(Ok(applied)) => each(index, Ok(applied)),
                Some(Err(rejection)) => {
                    let problem = Problem::from(rejection.clone());
                    each(index, Err(&Failure::Told(Box::new(problem))));
                }
                // The shards answer every operation they took; if not, that is our mistake.
                None => each(index, Err(&Failure::Brief(&kinds::INTERNAL))),
            }
        }
    }

    /// The problem of the whole batch, if load refused every operation that was well-formed.
    pub(crate) fn refused_by_load<T>(&self, outcomes: &[Result<T, Rejection>]) -> Option<Problem> {
        let mut worst: Option<&Rejection> = None;
        for outcome in outcomes {
            let rejection = outcome.as_ref().err().filter(|rejection| is_load(rejection))?;
            if worst.is_none_or(|worst| worst.retry_after_ms() < rejection.retry_after_ms()) {
                worst = Some(rejection);
            }
        }
        if let Some(rejection) = worst {
            return Some(rejection.clone().into());
        }
        let refused_at_once = self.by_index.iter().find(|(_, failure)| failure.kind().is_load());
        refused_at_once.map(|(_, failure)| match failure {
            Failure::Told(problem) => (**problem).clone(),
            Failure::Brief(kind) => Problem::new(kind, kind.title),
        })
    }
}
