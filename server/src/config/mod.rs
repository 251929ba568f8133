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

use crate::store::check_url;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use stormwheel::key_group::Layout;
use stormwheel::limits::{LANES_DEFAULT, LANES_MAX};
use stormwheel::runtime::{Ack, ClockOptions, EngineOptions, OnStep};

/// A segment has room for the largest record and the largest output, among them an element of 1 MiB at
/// which a function has failed, in hexadecimal digits.
const SEGMENT_BYTES_MIN: usize = 4 << 20;
/// Recovery reads a segment in pieces, but recycles and zeroes it as a whole.
const SEGMENT_BYTES_MAX: usize = 4 << 30;
/// Segments are whole pages of a disk.
const SEGMENT_PAGE_BYTES: usize = 4 << 10;

/// Everything that can be set, with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "each is a key of its own")]
pub struct ServerConfig {
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Allows to listen beyond loopback, although nothing authenticates yet.
    pub insecure_listen: bool,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Nothing is kept: what is acknowledged is gone when the process ends.
    pub in_memory: bool,
    /// When a write is answered, unless it says so itself.
    pub ack: AckLevel,
    /// Threads that own keys.
    pub shards: u16,
    /// Ordered sequences that keys are spread over; 0: those of the data directory.
    pub lanes: u16,
    /// Key groups; 0: those of the data directory.
    pub max_parallelism: u16,
    /// Pin each shard's thread to a core.
    pub pin: bool,
    /// Bytes of requests that may wait for one shard.
    pub queue_bytes_max: ByteSize,
    /// Bytes of outputs kept: on disk, or in memory where everything is there.
    pub output_bytes_max: ByteSize,
    /// Bytes of one segment of the logs.
    pub segment_bytes: ByteSize,
    /// Bytes of the whole data directory; 0: as much as the disk has.
    pub max_disk_bytes: ByteSize,
    /// Follow the tail of a log that another version wrote.
    pub replay_with_this_version: bool,
    /// `auto`, `json` or `text`.
    pub log_format: LogFormat,
    /// A level, or directives as `tracing` reads them.
    pub log_level: String,
    /// How long a stop may take, all in all.
    pub shutdown_timeout: Span,
    /// The adjusted clock.
    pub clock: ClockConfig,
    /// When a start has to follow how much of the log.
    pub checkpoint: CheckpointConfig,
    /// Savepoints that are made by themselves.
    pub savepoint: SavepointConfig,
    /// Where snapshots go.
    pub snapshots: SnapshotsConfig,
    /// Limits of HTTP.
    pub http: HttpConfig,
}

/// When a write is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AckLevel {
    /// Once it is applied in memory.
    Accepted,
    /// Once it is in the log's file.
    Written,
    /// Once it is durable.
    Synced,
}

impl AckLevel {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Written => "written",
            Self::Synced => "synced",
        }
    }

    /// As the engine has it.
    pub const fn level(self) -> Ack {
        match self {
            Self::Accepted => Ack::Accepted,
            Self::Written => Ack::Written,
            Self::Synced => Ack::Synced,
        }
    }
}

/// Checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// From the beginning of one to that of the next; 0: only when asked.
    pub interval: Span,
    /// How long one is spread over; 0: as fast as it can be.
    pub over: Span,
}

/// Savepoints that are made by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavepointConfig {
    /// From one of everything to the next; 0: only when asked.
    pub every: Span,
    /// How many of those are kept; what was asked for stays.
    pub keep: usize,
}

/// Where snapshots go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotsConfig {
    /// Empty: a folder in the data directory. Else `file:///a/folder` or `s3://bucket/prefix`.
    pub url: String,
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
            in_memory: false,
            ack: AckLevel::Synced,
            shards: (cores / 2).clamp(1, LANES_DEFAULT),
            lanes: 0,
            max_parallelism: 0,
            pin: false,
            queue_bytes_max: ByteSize(64 << 20),
            output_bytes_max: ByteSize(1 << 30),
            segment_bytes: ByteSize(64 << 20),
            max_disk_bytes: ByteSize(0),
            replay_with_this_version: false,
            log_format: LogFormat::Auto,
            log_level: "info".to_owned(),
            shutdown_timeout: Span::seconds(30),
            clock: ClockConfig { max_step: Span::seconds(3_600), on_step: StepPolicy::Hold },
            checkpoint: CheckpointConfig { interval: Span::seconds(60), over: Span::seconds(10) },
            savepoint: SavepointConfig { every: Span::seconds(0), keep: 7 },
            snapshots: SnapshotsConfig { url: String::new() },
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
        // What is not said is that of the data directory, if there is one: its own check is the
        // engine's.
        let options = self.engine_options();
        Layout::new(options.new_max_parallelism(), options.new_lanes(), self.shards)?;
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
        self.validate_storage()
    }

    fn validate_storage(&self) -> Result<(), String> {
        let segment_bytes = self.segment_bytes.0;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes)
            || !segment_bytes.is_multiple_of(SEGMENT_PAGE_BYTES)
        {
            return Err(format!(
                "segment_bytes is {}; it must be a multiple of 4KiB from {} to {}",
                self.segment_bytes,
                ByteSize(SEGMENT_BYTES_MIN),
                ByteSize(SEGMENT_BYTES_MAX)
            ));
        }
        let least = self.disk_bytes_min();
        if self.max_disk_bytes.0 != 0 && self.max_disk_bytes.0 < least {
            return Err(format!(
                "max_disk_bytes is {}; with {} shards and segments of {} it must be at least {}, \
                 or 0 for as much as the disk has",
                self.max_disk_bytes,
                self.shards,
                self.segment_bytes,
                ByteSize(least)
            ));
        }
        let CheckpointConfig { interval, over } = self.checkpoint;
        if !interval.0.is_zero() && over > interval {
            return Err(format!(
                "checkpoint.over is longer than checkpoint.interval: a checkpoint that is spread \
                 over {} ms cannot begin every {} ms",
                over.as_millis(),
                interval.as_millis()
            ));
        }
        if self.savepoint.keep == 0 {
            return Err("savepoint.keep is 0; savepoint.every = \"0s\" makes none".to_owned());
        }
        if self.data_dir.as_os_str().is_empty() {
            return Err("data_dir is empty; name a folder, or say --in-memory".to_owned());
        }
        check_url(&self.snapshots.url).map_err(|detail| format!("snapshots.url: {detail}"))?;
        if self.in_memory && !self.snapshots.url.is_empty() {
            return Err(
                "snapshots.url: with in_memory nothing is kept, snapshots neither".to_owned()
            );
        }
        Ok(())
    }

    /// Each shard has a segment that is written and one that is ready, so has the output log; and a
    /// cut of the log needs one more of each to get anywhere.
    fn disk_bytes_min(&self) -> usize {
        let segments = (usize::from(self.shards) + 1) * 3;
        self.segment_bytes.0.saturating_mul(segments)
    }

    /// The bound of the data directory, as the engine has it.
    pub fn disk_bytes_max(&self) -> u64 {
        if self.max_disk_bytes.0 == 0 { u64::MAX } else { self.max_disk_bytes.0 as u64 }
    }

    /// What the engine needs to know of it.
    pub fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            shards: self.shards,
            // 0 goes through as it is: the engine takes what the data directory has.
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
            ..EngineOptions::default()
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
        check_refused("lanes", |config| (config.lanes, config.max_parallelism) = (64, 32));
        check_refused("shards", |config| config.shards = 2_000);
        check_refused("http.connections_max", |config| {
            config.http.connections_max = 0;
        });
        check_refused("http.header_timeout", |config| {
            config.http.header_timeout = Span::seconds(0);
        });
    }

    #[test]
    fn what_durability_cannot_be_is_refused_by_name() {
        check_refused("segment_bytes is 1000B", |config| config.segment_bytes = ByteSize(1_000));
        check_refused("from 4MiB to", |config| config.segment_bytes = ByteSize(1 << 20));
        check_refused("multiple of 4KiB", |config| config.segment_bytes = ByteSize((4 << 20) + 1));
        check_refused("max_disk_bytes is 64MiB", |config| {
            config.max_disk_bytes = ByteSize(64 << 20);
        });
        check_refused("checkpoint.over is longer", |config| {
            config.checkpoint.over = Span::seconds(61);
        });
        check_refused("savepoint.keep", |config| config.savepoint.keep = 0);
        check_refused("snapshots.url: `ftp`", |config| {
            config.snapshots.url = "ftp://x".to_owned();
        });
        check_refused("in_memory", |config| {
            config.in_memory = true;
            config.snapshots.url = "file:///x".to_owned();
        });
        check_refused("data_dir is empty", |config| config.data_dir = PathBuf::new());
        let asked_only = ServerConfig {
            checkpoint: CheckpointConfig { interval: Span::seconds(0), over: Span::seconds(9) },
            max_disk_bytes: ByteSize(64 << 30),
            ..ServerConfig::default()
        };
        assert_eq!(asked_only.validate(), Ok(()));
        assert_eq!(asked_only.disk_bytes_max(), 64 << 30);
        assert_eq!(ServerConfig::default().disk_bytes_max(), u64::MAX);
    }

    #[test]
    fn what_is_fixed_with_the_data_goes_unsaid_to_the_engine() {
        let options = ServerConfig::default().engine_options();
        assert_eq!((options.lanes, options.max_parallelism), (0, 0));
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
