//! The configuration of a namespace, as the core keeps it: typed, checked, in milliseconds.
//!
//! It does not know how it is spelled over HTTP; the server maps one to the other.

use crate::error::Rejection;
use crate::limits::{
    IDENTIFIER_BYTES_MAX, PAYLOAD_BYTES_DEFAULT, PAYLOAD_BYTES_MAX, RETRIES_MAX, RETRY_WAIT_MS_MAX,
    SOURCES_MAX, TIMERS_PER_KEY_DEFAULT, TIMERS_PER_KEY_MAX, WINDOW_MS_MAX,
};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What a namespace runs and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamespaceConfig {
    /// The keyed function it runs; `timers` turns each due timer into a fire.
    pub operator: String,
    /// What the function is to be made of; what may stand here is its own business.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub options: serde_json::Value,
    /// Whose clock processing time follows.
    pub clock: ClockKind,
    /// Times are rounded down to a multiple of this.
    pub resolution_ms: i64,
    /// Fires may move later by up to this.
    pub spread_ms: i64,
    /// What happens to an event timer registered at or below the watermark.
    pub late_timers: LateTimers,
    /// An element is late if its timestamp is at or below the watermark less this.
    pub lateness_ms: i64,
    /// What happens to elements that are late.
    pub late_elements: LateElements,
    /// What happens when the function fails.
    pub on_error: OnError,
    /// Where its watermark comes from.
    pub watermark: WatermarkConfig,
    /// What a touch without `after` means; `None`: it must say.
    pub touch_after_ms: Option<i64>,
    /// What happens to timers that fell due while nothing could fire.
    pub overdue: OverduePolicy,
    /// How long outputs are kept, and how many bytes of them.
    pub retention: Retention,
    /// What it may hold.
    pub limits: NamespaceLimits,
}

/// Whose clock processing time follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum ClockKind {
    /// The real-time clock of the machine, as the engine adjusts it.
    #[default]
    System,
    /// One that only moves when it is told to.
    Manual,
}

/// What happens to an event timer registered at or below the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum LateTimers {
    /// It fires at once.
    #[default]
    Fire,
    /// It waits for the next watermark, as Flink has it.
    NextWatermark,
}

/// What happens to elements that are late. They are counted either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum LateElements {
    /// The function never sees them.
    #[default]
    Drop,
    /// The function never sees them; they go to the side output `late`, as they came.
    SideOutput,
    /// The function sees them like any other.
    Process,
}

/// What happens when a function fails at an element or a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnError {
    /// How often it is called again before it has failed for good.
    pub retry: u32,
    /// How long after each failure; on a manual clock, at once.
    #[serde(default)]
    pub backoff_ms: i64,
    /// What comes then.
    pub then: ErrorPolicy,
}

impl Default for OnError {
    fn default() -> Self {
        Self { retry: 3, backoff_ms: 1_000, then: ErrorPolicy::Stop }
    }
}

/// What happens when a function has failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorPolicy {
    /// The namespace stops: the element is not taken, the timer is due still.
    Stop,
    /// The element or timer is passed over: counted, and told to the side output `errors`.
    Skip,
}

/// What happens to processing timers that fell due while the service was down, or the namespace
/// paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum OverduePolicy {
    /// They fire at once.
    #[default]
    Fire,
    /// They fire over the time that follows: the key says when, each key's in their order.
    Spread {
        /// Over how long.
        over_ms: i64,
    },
    /// They fire later than their time by as long as nothing could fire.
    Shift,
    /// They are cancelled, and counted.
    Drop,
}

impl OverduePolicy {
    /// The names of all policies, in the order of [`OverduePolicy::index`].
    pub const NAMES: [&str; 4] = ["fire", "spread", "shift", "drop"];

    /// Its place among all policies.
    pub const fn index(self) -> usize {
        match self {
            Self::Fire => 0,
            Self::Spread { .. } => 1,
            Self::Shift => 2,
            Self::Drop => 3,
        }
    }

    /// The policy of this place; `over_ms` is for the one that spreads.
    pub(crate) const fn from_index(index: u8, over_ms: i64) -> Option<Self> {
        match index {
            0 => Some(Self::Fire),
            1 => Some(Self::Spread { over_ms }),
            2 => Some(Self::Shift),
            3 => Some(Self::Drop),
            _ => None,
        }
    }
}

/// Where the watermark of a namespace comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct WatermarkConfig {
    /// Sources that hold time back until each has reported.
    pub sources: Vec<String>,
    /// A source that was silent for so long is idle; `None`: never by itself.
    pub idle_after_ms: Option<i64>,
    /// Elements are out of order by no more than this, and their timestamps move their source;
    /// `None`: only what is said of a source moves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<i64>,
}

impl WatermarkConfig {
    /// The watermark that elements up to this timestamp bring, if they bring one: one that is as late
    /// as the delay allows, and of this very timestamp, may still come.
    pub fn after(&self, newest: Timestamp) -> Option<Timestamp> {
        Some(newest.saturating_add(-self.delay_ms?).saturating_add(-1))
    }
}

/// How long outputs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Not longer than this.
    pub age_ms: i64,
    /// Not more bytes than this.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age_ms: 86_400_000, bytes: 10 << 30 }
    }
}

/// What a namespace may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamespaceLimits {
    /// Timers in all; `None`: as many as fit.
    pub timers: Option<u64>,
    /// Timers of one key.
    pub timers_per_key: u32,
    /// Bytes of one payload.
    pub payload_bytes: usize,
}

impl Default for NamespaceLimits {
    fn default() -> Self {
        Self {
            timers: None,
            timers_per_key: TIMERS_PER_KEY_DEFAULT,
            payload_bytes: PAYLOAD_BYTES_DEFAULT,
        }
    }
}

impl Default for NamespaceConfig {
    fn default() -> Self {
        Self {
            operator: OPERATOR_TIMERS.to_owned(),
            options: serde_json::Value::Null,
            clock: ClockKind::System,
            resolution_ms: 1,
            spread_ms: 0,
            late_timers: LateTimers::Fire,
            lateness_ms: 0,
            late_elements: LateElements::Drop,
            on_error: OnError::default(),
            watermark: WatermarkConfig::default(),
            touch_after_ms: None,
            overdue: OverduePolicy::Fire,
            retention: Retention::default(),
            limits: NamespaceLimits::default(),
        }
    }
}

/// The operator that turns each due timer into a fire.
pub const OPERATOR_TIMERS: &str = "timers";

impl NamespaceConfig {
    /// Whether it runs a function.
    pub fn runs_function(&self) -> bool {
        self.operator != OPERATOR_TIMERS
    }

    /// Whether its operator has the same options.
    pub(crate) fn has_options_of(&self, other: &Self) -> bool {
        let are_none = |it: &Self| is_nothing(&it.options);
        self.options == other.options || are_none(self) && are_none(other)
    }

    /// Refuses what cannot be, naming the field. Which functions there are, and what options they
    /// take, is not known here: [`crate::function::Operators::check`].
    pub fn validate(&self) -> Result<(), Rejection> {
        let invalid =
            |field: &'static str, detail: String| Err(Rejection::OptionInvalid { field, detail });
        if !self.runs_function() {
            if !is_nothing(&self.options) {
                return invalid("options", "the operator `timers` takes none".to_owned());
            }
            if self.watermark.delay_ms.is_some() {
                let detail = "`bounded` follows the timestamps of elements, and the operator \
                              `timers` takes none; there is `explicit`";
                return invalid("watermark.strategy", detail.to_owned());
            }
        } else if !is_identifier(&self.operator) {
            return invalid("operator", format!("`{}` is not a name: {NAME_RULE}", self.operator));
        } else if self.limits.timers.is_some() {
            // A callback decides nothing that is not the same on replay. Of the timers that there are,
            // those of its key are, and no others: how far a storm of fires has come with other keys
            // differs from a run to its replay, and so do the lanes from one another.
            let detail = "is for the operator `timers`: what a function registers cannot be counted over all \
                 keys in a way that a replay repeats; `limits.timers_per_key` holds for functions too";
            return invalid("limits.timers", detail.to_owned());
        }
        let OnError { retry, backoff_ms, .. } = self.on_error;
        if retry > RETRIES_MAX {
            return invalid("on_error.retry", format!("is {retry}, allowed is 0 to {RETRIES_MAX}"));
        }
        let backoff_ms_max = RETRY_WAIT_MS_MAX / i64::from(retry.max(1));
        if !(0..=backoff_ms_max).contains(&backoff_ms) {
            let detail = format!(
                "is {backoff_ms} ms, allowed is 0 to {backoff_ms_max} ms: over all retries no more than \
                 {RETRY_WAIT_MS_MAX} ms"
            );
            return invalid("on_error.backoff", detail);
        }
        let over_ms = match self.overdue {
            OverduePolicy::Spread { over_ms } => over_ms,
            OverduePolicy::Fire | OverduePolicy::Shift | OverduePolicy::Drop => 1,
        };
        for (field, value, least) in [
            ("resolution", self.resolution_ms, 1),
            ("spread", self.spread_ms, 0),
            ("touch_after", self.touch_after_ms.unwrap_or(0), 0),
            ("overdue.over", over_ms, 1),
            ("lateness", self.lateness_ms, 0),
            ("watermark.delay", self.watermark.delay_ms.unwrap_or(0), 0),
            ("watermark.idle_after", self.watermark.idle_after_ms.unwrap_or(1), 1),
        ] {
            if !(least..=WINDOW_MS_MAX).contains(&value) {
                return invalid(
                    field,
                    format!("is {value} ms, allowed is {least} to {WINDOW_MS_MAX} ms"),
                );
            }
        }
        if self.retention.age_ms < 1 {
            return invalid("retention.age", "must be at least 1 ms".to_owned());
        }
        if !(1..=TIMERS_PER_KEY_MAX).contains(&self.limits.timers_per_key) {
            let detail = format!("allowed is 1 to {TIMERS_PER_KEY_MAX}");
            return invalid("limits.timers_per_key", detail);
        }
        if self.limits.payload_bytes > PAYLOAD_BYTES_MAX {
            return invalid("limits.payload_bytes", format!("allowed is 0 to {PAYLOAD_BYTES_MAX}"));
        }
        if self.watermark.sources.len() > SOURCES_MAX {
            return invalid("watermark.sources", format!("allowed are {SOURCES_MAX}"));
        }
        for (index, source) in self.watermark.sources.iter().enumerate() {
            if !is_identifier(source) {
                return invalid(
                    "watermark.sources",
                    format!("`{source}` is not a name: {NAME_RULE}"),
                );
            }
            if self.watermark.sources[..index].contains(source) {
                return invalid("watermark.sources", format!("`{source}` stands twice"));
            }
        }
        Ok(())
    }
}

const NAME_RULE: &str = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}";

/// Whether options say nothing.
pub(crate) fn is_nothing(options: &serde_json::Value) -> bool {
    options.is_null() || options.as_object().is_some_and(serde_json::Map::is_empty)
}

/// Whether a text can name a namespace, a source, a subscription or a producer:
/// `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.
pub fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= IDENTIFIER_BYTES_MAX
        && bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(field: &str, change: impl FnOnce(&mut NamespaceConfig)) {
        let mut config = NamespaceConfig::default();
        change(&mut config);
        match config.validate() {
            Err(rejection) => assert_eq!(rejection.field(), Some(field)),
            Ok(()) => panic!("{field} should have been refused"),
        }
    }

    #[test]
    fn the_default_is_valid_and_each_bad_field_is_named() {
        assert_eq!(NamespaceConfig::default().validate(), Ok(()));
        check_refused("operator", |config| config.operator = "no name".to_owned());
        check_refused("options", |config| config.options = serde_json::json!({"size": 1}));
        check_refused("limits.timers", |config| {
            config.operator = "count".to_owned();
            config.limits.timers = Some(5);
        });
        check_refused("lateness", |config| config.lateness_ms = -1);
        check_refused("on_error.retry", |config| config.on_error.retry = RETRIES_MAX + 1);
        check_refused("on_error.backoff", |config| config.on_error.backoff_ms = -1);
        check_refused("on_error.backoff", |config| config.on_error.backoff_ms = 100_001);
        check_refused("resolution", |config| config.resolution_ms = 0);
        check_refused("spread", |config| config.spread_ms = -1);
        check_refused("touch_after", |config| config.touch_after_ms = Some(-1));
        check_refused("overdue.over", |config| {
            config.overdue = OverduePolicy::Spread { over_ms: 0 };
        });
        check_refused("watermark.strategy", |config| config.watermark.delay_ms = Some(1));
        check_refused("watermark.delay", |config| {
            config.operator = "count".to_owned();
            config.watermark.delay_ms = Some(-1);
        });
        check_refused("watermark.idle_after", |config| config.watermark.idle_after_ms = Some(0));
        check_refused("retention.age", |config| config.retention.age_ms = 0);
        check_refused("limits.timers_per_key", |config| config.limits.timers_per_key = 0);
        check_refused("limits.payload_bytes", |config| config.limits.payload_bytes = 1 << 30);
        check_refused("watermark.sources", |config| {
            config.watermark.sources = vec!["a".to_owned(), "a".to_owned()];
        });
        check_refused("watermark.sources", |config| {
            config.watermark.sources = vec!["-a".to_owned()];
        });
    }

    #[test]
    fn a_configuration_written_before_there_was_a_field_is_read() {
        let skip = "{\"clock\":\"manual\",\"on_error\":{\"retry\":2,\"then\":\"skip\"}}";
        let config: NamespaceConfig = serde_json::from_str(skip).unwrap();
        let expected = OnError { retry: 2, backoff_ms: 0, then: ErrorPolicy::Skip };
        assert_eq!(config.on_error, expected);
        assert_eq!(config.overdue, OverduePolicy::Fire);
        let overdue = OverduePolicy::Spread { over_ms: 5 };
        let config = NamespaceConfig { overdue, ..config };
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains("\"overdue\":{\"spread\":{\"over_ms\":5}}"), "{text}");
        assert_eq!(serde_json::from_str::<NamespaceConfig>(&text).unwrap(), config);
    }

    #[test]
    fn a_bounded_watermark_stands_just_before_what_may_still_come() {
        let after = |delay_ms, newest| {
            let watermark = WatermarkConfig { delay_ms, ..WatermarkConfig::default() };
            watermark.after(Timestamp::from_millis(newest)).map(Timestamp::as_millis)
        };
        assert_eq!(after(None, 10), None);
        assert_eq!(after(Some(0), 10), Some(9));
        assert_eq!(after(Some(5), 10), Some(4));
        assert_eq!(after(Some(5), i64::MIN + 3), Some(i64::MIN));
    }

    #[test]
    fn identifiers() {
        for good in ["a", "A9", "orders.eu-1_x", &"x".repeat(128)] {
            assert!(is_identifier(good), "{good}");
        }
        for bad in ["", ".a", "-a", "_a", "a b", "a/b", "ä", &"x".repeat(129)] {
            assert!(!is_identifier(bad), "{bad}");
        }
    }
}
