//! The life of an instance: it is opened before its first callback, and closed once, when its lane lets
//! go of it.
//!
//! What is made only to look at options never gets here, and has no life.

use super::Operator;
use super::error::{FunctionError, Result};
use super::guard::{guarded, set_tried};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An instance of an operator that a lane has.
pub(crate) struct Instance {
    operator: Box<dyn Operator>,
    stage: Stage,
    /// Where panics of `close` are counted.
    close_panics: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Made,
    Open,
    Closed,
}

impl Instance {
    /// An instance that has seen nothing yet.
    pub(crate) fn new(operator: Box<dyn Operator>, close_panics: Arc<AtomicU64>) -> Self {
        Self { operator, stage: Stage::Made, close_panics }
    }

    /// The same, where nobody looks at the count.
    #[cfg(test)]
    pub(crate) fn of(operator: Box<dyn Operator>) -> Self {
        Self::new(operator, Arc::default())
    }

    /// What it is, whether it is open or not.
    pub(crate) fn operator(&self) -> &dyn Operator {
        &*self.operator
    }

    /// The same, to be told what it keeps.
    pub(crate) fn operator_mut(&mut self) -> &mut dyn Operator {
        &mut *self.operator
    }

    /// For a callback, as a part of which it is opened if it is not open yet. If that fails, the callback
    /// has failed, and the next one tries again.
    #[inline]
    pub(super) fn opened(&mut self) -> Result<&mut dyn Operator> {
        if self.stage != Stage::Open {
            self.open()?;
        }
        Ok(&mut *self.operator)
    }

    #[cold]
    fn open(&mut self) -> Result<()> {
        if self.stage == Stage::Closed {
            return Err(FunctionError::new("the function is closed already"));
        }
        self.operator.open().map_err(|error| error.while_doing("the function cannot be opened"))?;
        self.stage = Stage::Open;
        Ok(())
    }

    /// Its lane lets go of it: nothing is called any more. A panic ends with it.
    pub(crate) fn close(&mut self) {
        if std::mem::replace(&mut self.stage, Stage::Closed) == Stage::Closed {
            return;
        }
        set_tried(0);
        let closed = guarded(|| {
            self.operator.close();
            Ok(())
        });
        // Relaxed: a count, nothing is ordered by it.
        self.close_panics.fetch_add(u64::from(closed.is_err()), Ordering::Relaxed);
    }
}
