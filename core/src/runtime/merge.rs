//! Puts the answers of several shards to one question together.

use super::batch::Reply;
use crate::error::Rejection;
use std::sync::{Arc, Mutex, PoisonError};

type Answer<T> = Result<T, Rejection>;

/// Waits for one answer from each shard; the first refusal refuses the whole.
pub(super) struct Merge<T> {
    state: Arc<Mutex<State<T>>>,
}

struct State<T> {
    waiting: usize,
    parts: Vec<T>,
    finish: Option<Finish<T>>,
}

struct Finish<T> {
    merge: Box<dyn FnOnce(Vec<T>) -> T + Send>,
    reply: Reply<Answer<T>>,
}

impl<T: Send + 'static> Merge<T> {
    pub(super) fn new(
        waiting: usize,
        reply: Reply<Answer<T>>,
        merge: impl FnOnce(Vec<T>) -> T + Send + 'static,
    ) -> Self {
        let finish = Some(Finish { merge: Box::new(merge), reply });
        let state = State { waiting, parts: Vec::new(), finish };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A reply for one of the shards.
    pub(super) fn part(&self) -> Reply<Answer<T>> {
        let state = Arc::clone(&self.state);
        Box::new(move |answer| add(&state, answer))
    }
}

fn add<T>(state: &Mutex<State<T>>, answer: Answer<T>) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.waiting -= 1;
    let refusal = match answer {
        Ok(part) => {
            state.parts.push(part);
            None
        }
        Err(rejection) => Some(rejection),
    };
    if refusal.is_none() && state.waiting > 0 {
        return;
    }
    let Some(Finish { merge, reply }) = state.finish.take() else {
        return;
    };
    let parts = std::mem::take(&mut state.parts);
    drop(state);
    reply(refusal.map_or_else(|| Ok(merge(parts)), Err));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn check(answers: Vec<Answer<u32>>, expected: Answer<u32>) {
        let (sender, receiver) = mpsc::channel();
        let reply = Box::new(move |answer| sender.send(answer).expect("the test listens"));
        let merge = Merge::new(answers.len(), reply, |parts: Vec<u32>| parts.into_iter().sum());
        for answer in answers {
            merge.part()(answer);
        }
        assert_eq!(receiver.recv(), Ok(expected));
        assert!(receiver.try_recv().is_err(), "one answer");
    }

    #[test]
    fn all_parts_or_the_first_refusal() {
        check(vec![Ok(1), Ok(2), Ok(3)], Ok(6));
        check(vec![Ok(1), Err(Rejection::Stopping), Ok(3)], Err(Rejection::Stopping));
        check(
            vec![Err(Rejection::NamespaceUnknown), Err(Rejection::Stopping)],
            Err(Rejection::NamespaceUnknown),
        );
    }
}
