//! The configuration of the process: every key with its default and its bounds.
//!
//! One struct, read from four layers (see `layers`): defaults < TOML file < environment < flags.
//! What stands here is checked once at the start; nothing reads the environment afterwards.

mod layers;
mod values;

#[cfg(test)]
pub(crate) use layers::CLIENT_VARIABLES;
pub use layers::{Effective, Layers, Origin};
pub use values::{ByteSize, Span};

use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use stormwheel::key_group::Layout;
use stormwheel::limits::{LANES_DEFAULT, LANES_MAX, MAX_PARALLELISM_DEFAULT};
use stormwheel::runtime::{ClockOptions, EngineOptions, OnStep};

/// Everything that can be set, with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Allows to listen beyond loopback, although nothing authenticates yet.
    pub insecure_listen: bool,
    /// Where durable state will live; for now everything is in memory.
    pub data_dir: PathBuf,
    /// Threads that own keys.
    pub shards: u16,
    /// Ordered sequences that keys are spread over.
    pub lanes: u16,
    /// Key groups.
    pub max_parallelism: u16,
    /// Pin each shard's thread to a core.
    pub pin: bool,
    /// Bytes of requests that may wait for one shard.
    pub queue_bytes_max: ByteSize,
    /// Bytes of outputs kept in memory.
    pub output_bytes_max: ByteSize,
    /// `auto`, `json` or `text`.
    pub log_format: LogFormat,
    /// A level, or directives as `tracing` reads them.
    pub log_level: String,
    /// How long a stop may take, all in all.
    pub shutdown_timeout: Span,
    /// The adjusted clock.
    pub clock: ClockConfig,
    /// Limits of HTTP.
    pub http: HttpConfig,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For eyes.
    Text,
}

/// The adjusted clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockConfig {
    /// The longest leap of the machine's clock that is followed without asking.
    pub max_step: Span,
    /// What to do beyond it: `hold` or `jump`.
    pub on_step: StepPolicy,
}

/// What to do when the machine's clock leaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepPolicy {
    /// Stop ticking until somebody accepts the new time.
    Hold,
    /// Follow it.
    Jump,
}

/// Limits of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Connections at a time; one more is refused with 503.
    pub connections_max: usize,
    /// Connections at a time from one address; one more is refused with 429.
    pub connections_per_ip_max: usize,
    /// Time from a request's first byte (a connection's opening, for the first one) to the end of
    /// its head.
    pub header_timeout: Span,
    /// Time that a connection may stay silent between two requests.
    pub idle_timeout: Span,
    /// Time for a whole request body to arrive.
    pub body_timeout: Span,
    /// Time that a client may leave an answer (not a stream) unread.
    pub write_timeout: Span,
    /// Bytes of a single request's body, after decompression.
    pub body_bytes_max: ByteSize,
    /// Bytes of a batch's body, after decompression.
    pub batch_bytes_max: ByteSize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = u16::try_from(cores).unwrap_or(u16::MAX / 2);
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7400)),
            insecure_listen: false,
            data_dir: PathBuf::from("./stormwheel-data"),
            shards: (cores / 2).clamp(1, LANES_DEFAULT),
            lanes: cores.saturating_mul(2).clamp(LANES_DEFAULT, MAX_PARALLELISM_DEFAULT),
            max_parallelism: MAX_PARALLELISM_DEFAULT,
            pin: false,
            queue_bytes_max: ByteSize(64 << 20),
            output_bytes_max: ByteSize(1 << 30),
            log_format: LogFormat::Auto,
            log_level: "info".to_owned(),
            shutdown_timeout: Span::seconds(30),
            clock: ClockConfig { max_step: Span::seconds(3_600), on_step: StepPolicy::Hold },
            http: HttpConfig {
                connections_max: 10_000,
                connections_per_ip_max: 4_096,
                header_timeout: Span::seconds(10),
                idle_timeout: Span::seconds(75),
                body_timeout: Span::seconds(30),
                write_timeout: Span::seconds(60),
                body_bytes_max: ByteSize(1 << 20),
                batch_bytes_max: ByteSize(8 << 20),
            },
        }
    }
}

impl ServerConfig {
    /// Refuses what cannot be, in a sentence that names the key.
    pub fn validate(&self) -> Result<(), String> {
        if !self.listen.ip().is_loopback() && !self.insecure_listen {
            return Err(format!(
                "listen: {} can be reached from other machines and there is no authentication \
                 yet; listen on 127.0.0.1, or say --insecure-listen if the network in front of it \
                 is trusted",
                self.listen
            ));
        }
        Layout::new(self.max_parallelism, self.lanes, self.shards)?;
        for (key, value) in [
            ("http.connections_max", self.http.connections_max),
            ("http.connections_per_ip_max", self.http.connections_per_ip_max),
            ("http.body_bytes_max", self.http.body_bytes_max.0),
            ("http.batch_bytes_max", self.http.batch_bytes_max.0),
            ("queue_bytes_max", self.queue_bytes_max.0),
            ("output_bytes_max", self.output_bytes_max.0),
        ] {
            if value == 0 {
                return Err(format!("{key} is 0; it must be at least 1"));
            }
        }
        for (key, span) in [
            ("http.header_timeout", self.http.header_timeout),
            ("http.idle_timeout", self.http.idle_timeout),
            ("http.body_timeout", self.http.body_timeout),
            ("http.write_timeout", self.http.write_timeout),
            ("clock.max_step", self.clock.max_step),
        ] {
            if span.0.is_zero() {
                return Err(format!("{key} is 0; it must be longer"));
            }
        }
        Ok(())
    }

    /// What the engine needs to know of it.
    pub fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            shards: self.shards,
            lanes: self.lanes.min(LANES_MAX),
            max_parallelism: self.max_parallelism,
            pin: self.pin,
            queue_bytes_max: self.queue_bytes_max.0,
            output_bytes_max: self.output_bytes_max.0,
            clock: ClockOptions {
                max_step_ms: self.clock.max_step.as_millis(),
                on_step: match self.clock.on_step {
                    StepPolicy::Hold => OnStep::Hold,
                    StepPolicy::Jump => OnStep::Jump,
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(part: &str, change: impl FnOnce(&mut ServerConfig)) {
        let mut config = ServerConfig::default();
        change(&mut config);
        let message = config.validate().unwrap_err();
        assert!(message.contains(part), "{message}");
    }

    #[test]
    fn the_default_is_valid_and_what_cannot_be_is_refused_by_name() {
        assert_eq!(ServerConfig::default().validate(), Ok(()));
        check_refused("--insecure-listen", |config| {
            config.listen = SocketAddr::from(([0, 0, 0, 0], 7400));
        });
        check_refused("lanes", |config| config.lanes = 0);
        check_refused("shards", |config| config.shards = 2_000);
        check_refused("http.connections_max", |config| {
            config.http.connections_max = 0;
        });
        check_refused("http.header_timeout", |config| {
            config.http.header_timeout = Span::seconds(0);
        });
    }

    #[test]
    fn an_open_address_is_fine_when_asked_for() {
        let config = ServerConfig {
            listen: SocketAddr::from(([0, 0, 0, 0], 7400)),
            insecure_listen: true,
            ..ServerConfig::default()
        };
        assert_eq!(config.validate(), Ok(()));
    }
}
