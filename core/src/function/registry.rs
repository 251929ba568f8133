//! Which operators there are: by name, how an instance is made from a namespace's options.

use super::Operator;
use super::broadcast_process::{BroadcastProcess, KeyedBroadcastProcessFunction};
use super::co_process::{CoProcess, KeyedCoProcessFunction};
use super::error::{FunctionError, Result};
use super::guard::{guarded, set_tried};
use super::process::{KeyedProcessFunction, Process};
use crate::error::Rejection;
use crate::namespace::{NamespaceConfig, OPERATOR_TIMERS, OverduePolicy, is_nothing};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

type Factory = dyn Fn(&Value) -> Result<Box<dyn Operator>> + Send + Sync;

/// The operators that namespaces can run, beside `timers`, which is always there.
#[derive(Clone, Default)]
pub struct Operators {
    by_name: BTreeMap<String, Arc<Factory>>,
}

impl Operators {
    /// Adds an operator, in place of the one of this name if there is one. `make` makes an instance
    /// from the options of a namespace, or says what is wrong with them; each lane of a namespace
    /// has its own.
    #[must_use]
    pub fn with(
        mut self,
        name: &str,
        make: impl Fn(&Value) -> Result<Box<dyn Operator>> + Send + Sync + 'static,
    ) -> Self {
        self.by_name.insert(name.to_owned(), Arc::new(make));
        self
    }

    /// Adds a function that takes no options.
    #[must_use]
    pub fn with_function<F: KeyedProcessFunction>(
        self,
        name: &str,
        make: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        self.with(name, move |options| {
            refuse_options(options)?;
            operator(make())
        })
    }

    /// Adds a function of two inputs that takes no options.
    #[must_use]
    pub fn with_co_function<F: KeyedCoProcessFunction>(
        self,
        name: &str,
        make: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        self.with(name, move |options| {
            refuse_options(options)?;
            co_operator(make())
        })
    }

    /// Adds a function over columns that takes no options.
    #[cfg(feature = "arrow")]
    #[must_use]
    pub fn with_batch_function<F: super::KeyedBatchFunction>(
        self,
        name: &str,
        make: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        self.with(name, move |options| {
            refuse_options(options)?;
            super::batch_operator(make())
        })
    }

    /// Adds a function with broadcasts that takes no options.
    #[must_use]
    pub fn with_broadcast_function<F: KeyedBroadcastProcessFunction>(
        self,
        name: &str,
        make: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        self.with(name, move |options| {
            refuse_options(options)?;
            broadcast_operator(make())
        })
    }

    /// The names of all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Whether there is one of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Whether the options of a configuration that was checked cannot change while there are keys.
    pub(crate) fn keeps_options(&self, config: &NamespaceConfig) -> bool {
        let operator = self.make(config);
        operator.is_ok_and(|operator| operator.is_some_and(|operator| operator.keeps_options()))
    }

    /// Refuses a configuration that names an operator that is not there, options that it does not
    /// take, or an `overdue` that it cannot do with.
    pub fn check(&self, config: &NamespaceConfig) -> Result<(), Rejection> {
        let operator = self.make(config)?;
        if config.overdue == OverduePolicy::Drop
            && operator.is_some_and(|operator| operator.needs_clock_timers())
        {
            let detail = format!(
                "`drop` is not for the operator `{}` with these options: its timers take away what it \
                 keeps for a key; there are `fire`, `spread` and `shift`",
                config.operator
            );
            return Err(Rejection::OptionInvalid { field: "overdue.policy", detail });
        }
        Ok(())
    }

    /// Refuses broadcasts for a namespace whose operator takes none.
    pub(crate) fn check_broadcast(&self, config: &NamespaceConfig) -> Result<(), Rejection> {
        let takes_some = self.make(config)?.is_some_and(|mut it| it.broadcast_side().is_some());
        if takes_some { Ok(()) } else { Err(Rejection::BroadcastUnwanted) }
    }

    /// An instance of the function that a namespace runs; `None`: it runs none.
    pub(crate) fn make(
        &self,
        config: &NamespaceConfig,
    ) -> Result<Option<Box<dyn Operator>>, Rejection> {
        if !config.runs_function() {
            return Ok(None);
        }
        let name = &config.operator;
        let Some(make) = self.by_name.get(name) else {
            let known: Vec<&str> = [OPERATOR_TIMERS].into_iter().chain(self.names()).collect();
            let known = known.join("`, `");
            let detail = format!("there is no operator `{name}`; there is `{known}`");
            return Err(Rejection::OptionInvalid { field: "operator", detail });
        };
        set_tried(0);
        match guarded(|| make(&config.options)) {
            Ok(operator) => Ok(Some(operator)),
            Err(error) => {
                let detail = format!("operator `{name}`: {error}");
                Err(Rejection::OptionInvalid { field: "options", detail })
            }
        }
    }
}

impl fmt::Debug for Operators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// A typed function as an operator.
pub fn operator<F: KeyedProcessFunction>(function: F) -> Result<Box<dyn Operator>> {
    Ok(Box::new(Process::new(function)?))
}

/// A typed function of two inputs as an operator.
pub fn co_operator<F: KeyedCoProcessFunction>(function: F) -> Result<Box<dyn Operator>> {
    Ok(Box::new(CoProcess::new(function)?))
}

/// A typed function with broadcasts as an operator.
pub fn broadcast_operator<F: KeyedBroadcastProcessFunction>(
    function: F,
) -> Result<Box<dyn Operator>> {
    Ok(Box::new(BroadcastProcess::new(function)?))
}

fn refuse_options(options: &Value) -> Result<()> {
    if is_nothing(options) {
        return Ok(());
    }
    Err(FunctionError::new("the operator takes no options"))
}
