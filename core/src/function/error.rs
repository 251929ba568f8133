//! What a callback can fail with: a message, with those of what caused it.

use crate::limits::ERROR_BYTES_MAX;
use std::any::Any;
use std::error::Error;
use std::fmt;

/// What callbacks return.
pub type Result<T, E = FunctionError> = std::result::Result<T, E>;

/// Why a callback has failed. Any error becomes one by `?`, its causes included.
///
/// It is not an [`Error`] itself: else not every error could become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionError {
    message: String,
}

impl FunctionError {
    /// An error with this message; of a long one, with its first 4 KiB.
    pub fn new(message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(ERROR_BYTES_MAX));
        Self { message }
    }

    /// The message, and behind it those of the causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same, with what was being done in front of it.
    #[must_use]
    pub fn while_doing(self, what: &str) -> Self {
        Self::new(format!("{what}: {}", self.message))
    }

    /// What a callback that has panicked says.
    pub(super) fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::new(format!("the callback panicked: {}", text.unwrap_or("without a message")))
    }
}

impl fmt::Display for FunctionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: Error> From<E> for FunctionError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_message = cause.to_string();
            // Many errors repeat their cause in their own message.
            if !message.ends_with(&cause_message) {
                message.push_str(": ");
                message.push_str(&cause_message);
            }
            source = cause.source();
        }
        Self::new(message)
    }
}
