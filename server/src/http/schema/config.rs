//! The shape of a namespace's configuration.

use serde_json::Value;
use utoipa::ToSchema;

/// A namespace's configuration; what is left out of a PUT is the default.
#[derive(ToSchema)]
pub struct NamespaceConfig {
    #[schema(example = "timers")]
    pub operator: Option<String>,
    pub options: Option<Value>,
    #[schema(example = "system")]
    pub clock: Option<String>,
    #[schema(example = "1ms")]
    pub resolution: Option<String>,
    #[schema(example = "0s")]
    pub spread: Option<String>,
    #[schema(example = "fire")]
    pub late_timers: Option<String>,
    /// For functions: an element is late once it is so much older than the watermark.
    #[schema(example = "0s")]
    pub lateness: Option<String>,
    /// For functions: `drop`, `side_output` or `process`.
    #[schema(example = "drop")]
    pub late_elements: Option<String>,
    pub on_error: Option<OnError>,
    pub watermark: Option<WatermarkConfig>,
    pub touch_after: Option<String>,
    pub overdue: Option<Overdue>,
    pub retention: Option<Retention>,
    pub limits: Option<NamespaceLimits>,
}

/// For functions: what becomes of an element or a timer at which one fails.
#[derive(ToSchema)]
pub struct OnError {
    /// How often it is called again.
    pub retry: Option<u32>,
    /// How long after each failure; on a manual clock, at once.
    #[schema(example = "1s")]
    pub backoff: Option<String>,
    /// `stop`: the namespace stops until it is resumed, the element is refused, the timer stays. `skip`: it
    /// is passed over, and goes to the side output `errors`.
    #[schema(example = "stop")]
    pub then: Option<String>,
}

#[derive(ToSchema)]
pub struct WatermarkConfig {
    /// `explicit`, or `bounded`: the timestamps of elements move their source.
    #[schema(example = "explicit")]
    pub strategy: Option<String>,
    /// With `bounded`, and only there: how much out of order elements may be.
    #[schema(example = "5s")]
    pub delay: Option<String>,
    /// Sources that hold time back until each has reported.
    pub sources: Option<Vec<String>>,
    /// A source that was silent for so long holds nothing back.
    pub idle_after: Option<String>,
}

/// What happens to processing timers that fell due while nothing could fire.
#[derive(ToSchema)]
pub struct Overdue {
    /// `fire`, `spread`, `shift` or `drop`.
    #[schema(example = "fire")]
    pub policy: Option<String>,
    /// With `spread`, and only there: over how long.
    #[schema(example = "10m")]
    pub over: Option<String>,
}

#[derive(ToSchema)]
pub struct Retention {
    #[schema(example = "24h")]
    pub age: Option<String>,
    #[schema(example = "10GiB")]
    pub bytes: Option<String>,
}

#[derive(ToSchema)]
pub struct NamespaceLimits {
    pub timers: Option<u64>,
    pub timers_per_key: Option<u32>,
    pub payload_bytes: Option<u64>,
}
