//! An operator that comes along, as a type: its options, whether they stand in a namespace's
//! configuration or in code.
//!
//! There is one definition of them and one check. What code has put together is written down as a
//! namespace would say it, and runs only once that was read.

use crate::duration::DurationValue;
use crate::function::{Operator, Result};
use crate::namespace::NamespaceConfig;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// The options of an operator that comes along. As serde has them, they are what stands in `options` of
/// a namespace's configuration.
///
/// ```
/// use std::time::Duration;
/// use stormwheel::operators::{BuiltIn, Timeout, built_in};
/// use stormwheel::op::Payload;
/// use stormwheel::testing::OperatorHarness;
/// use stormwheel::time::{Domain, Timestamp};
///
/// let timeout = Timeout::after(Duration::from_secs(60)).domain(Domain::Event);
/// assert_eq!(
///     serde_json::to_string(&timeout)?,
///     r#"{"after":"1m","domain":"event","recover":true}"#,
/// );
///
/// let mut harness = OperatorHarness::new(built_in(), timeout.config()?)?;
/// harness.process(b"device-9", 0, Payload::Json(b"1"), Timestamp::from_millis(5_000))?;
/// harness.advance_watermark(65_000);
/// let outputs = harness.take_outputs(None);
/// assert_eq!(outputs[0].value, br#"{"event":"timeout","last_seen":5000,"value":1}"#);
/// # Ok::<(), stormwheel::function::FunctionError>(())
/// ```
pub trait BuiltIn: sealed::Read + Serialize {
    /// The operator's name: `operator` of a namespace's configuration.
    const NAME: &'static str;

    /// The operator that a namespace's `options` ask for, or what is wrong with them.
    fn from_options(options: &Value) -> Result<Box<dyn Operator>> {
        Self::read(options).map(Self::run)
    }

    /// The options as a namespace says them, or what is wrong with them.
    fn options(&self) -> Result<Value> {
        let options = serde_json::to_value(self)?;
        Self::read(&options).map(|_| options)
    }

    /// The operator itself: for [`Operators::with`](crate::function::Operators::with), under a name of
    /// one's own.
    fn operator(&self) -> Result<Box<dyn Operator>> {
        Self::from_options(&serde_json::to_value(self)?)
    }

    /// The configuration of a namespace that runs it, with defaults for all else.
    fn config(&self) -> Result<NamespaceConfig> {
        let operator = Self::NAME.to_owned();
        Ok(NamespaceConfig { operator, options: self.options()?, ..NamespaceConfig::default() })
    }
}

pub(super) mod sealed {
    use crate::function::{Operator, Result};
    use serde_json::Value;

    /// What only this crate does.
    pub trait Read: Sized {
        /// Reads options, and says what is wrong with them.
        fn read(options: &Value) -> Result<Self>;

        /// The operator of options that were read.
        fn run(self) -> Box<dyn Operator>;

        /// What it keeps for a key, as JSON.
        fn state_as_json(state: &[u8]) -> Result<String>;
    }
}

/// A length of time as options have it. One that they cannot have stays one.
pub(super) fn span(duration: Duration) -> DurationValue {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    DurationValue(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// Lets serde read options as a namespace's are read.
macro_rules! read_by_serde {
    ($($options:ty),+) => {$(
        impl TryFrom<serde_json::Value> for $options {
            type Error = $crate::function::FunctionError;

            fn try_from(options: serde_json::Value) -> $crate::function::Result<Self> {
                $crate::operators::built_in::sealed::Read::read(&options)
            }
        }
    )+};
}
pub(super) use read_by_serde;
