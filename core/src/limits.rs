//! Every upper bound in one place, each with what happens beyond it.

/// Bytes of a key. A longer or an empty one is refused.
pub const KEY_BYTES_MAX: usize = 1_024;
/// Bytes of a timer's name. A longer or an empty one is refused.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of a namespace's, source's or subscription's name.
pub const IDENTIFIER_BYTES_MAX: usize = 128;
/// Bytes of a payload, whatever a namespace allows.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Bytes of a payload that a namespace allows unless it says otherwise.
pub const PAYLOAD_BYTES_DEFAULT: usize = 65_536;
/// Bytes of a key's state. A callback that leaves more has failed.
pub const STATE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a broadcast state, of which each lane has a copy. A callback that leaves more has failed.
pub const BROADCAST_STATE_BYTES_MAX: usize = STATE_BYTES_MAX;
/// Broadcasts of the namespaces at home in one lane that not every lane is through with. The next one
/// is refused with 429.
pub const BROADCASTS_UNDER_WAY_MAX: usize = 256;
/// Bytes of these.
pub const BROADCAST_BYTES_UNDER_WAY_MAX: usize = 4 << 20;
/// Bytes that one callback emits, or names timers with. One that goes beyond has failed.
pub const CALL_BYTES_MAX: usize = 16 << 20;
/// Bytes of what callbacks emit that a turn takes elements in for. Beyond that the rest of them waits
/// for the next turn, and all of them while outputs are held up.
pub const EMITTED_BYTES_A_TURN: u64 = 8 << 20;
/// Bytes of the message of an error of a callback. The rest of it is cut off.
pub const ERROR_BYTES_MAX: usize = 4 << 10;
/// Timers that callbacks of one key register so that they are due at once, under one record. One that
/// goes beyond has failed: it would never end.
pub const DUE_AT_ONCE_MAX: u32 = 10_000;
/// How often a callback that fails may be called again.
pub const RETRIES_MAX: u32 = 100;
/// For how long a callback that fails may be waited for over all its retries: requests wait with it.
pub const RETRY_WAIT_MS_MAX: i64 = 300_000;
/// Characters that are kept of what a function said at which a namespace has stopped.
pub const STOP_ERROR_CHARS_MAX: usize = 2_000;
/// Failures at which a namespace has stopped that are shown of it; of more, their number.
pub const STOPS_SHOWN_MAX: usize = 8;
/// Longest duration in an operator's options: a hundred years of milliseconds.
pub const SPAN_MS_MAX: i64 = 36_525 * 86_400_000;
/// Elements of one key that a built-in operator holds until their time comes. One more fails.
pub const HELD_ELEMENTS_MAX: usize = 10_000;
/// Inputs of an operator.
pub const INPUTS_MAX: u8 = 2;
/// Elements of one key that `deduplicate` remembers. One more fails.
pub const SEEN_PER_KEY_MAX: usize = 10_000;
/// Open windows of one key. An element that opens one more fails.
pub const WINDOWS_PER_KEY_MAX: usize = 10_000;
/// Sliding windows that an element belongs to. Options that ask for more are refused.
pub const WINDOWS_PER_ELEMENT_MAX: i64 = 1_000;
/// Bytes of the values that a window collects or keeps. An element that brings more fails.
pub const WINDOW_VALUE_BYTES_MAX: usize = 256 << 10;
/// Fields of what a window emits. Options that name more are refused.
pub const WINDOW_FIELDS_MAX: usize = 64;
/// Timers of one key that a namespace allows unless it says otherwise.
pub const TIMERS_PER_KEY_DEFAULT: u32 = 10_000;
/// Timers of one key, whatever a namespace allows.
pub const TIMERS_PER_KEY_MAX: u32 = 1_000_000;
/// Key groups of a data directory.
pub const MAX_PARALLELISM_MAX: u16 = 32_768;
/// Key groups unless asked otherwise.
pub const MAX_PARALLELISM_DEFAULT: u16 = 128;
/// Lanes of a data directory.
pub const LANES_MAX: u16 = 1_024;
/// Lanes unless asked otherwise (or twice the cores, if that is more).
pub const LANES_DEFAULT: u16 = 16;
/// Namespaces of one process; one more is refused.
pub const NAMESPACES_MAX: usize = 100_000;
/// Sources of watermarks of one namespace; one more is refused.
pub const SOURCES_MAX: usize = 1_024;
/// Timers in one page of a listing.
pub const LIST_LIMIT_MAX: usize = 1_000;
/// Steps of one forecast.
pub const FORECAST_STEPS_MAX: usize = 2_000;
/// Bytes of requests waiting for one shard; the next one is refused with 429.
pub const QUEUE_BYTES_DEFAULT: usize = 64 << 20;
/// Bytes of outputs kept in memory; older ones go first.
pub const OUTPUT_BYTES_DEFAULT: usize = 1 << 30;
/// Timers that a shard fires before it serves its queue again: some hundred microseconds.
pub const SLICE_DEFAULT: u32 = 4_096;
/// Longest resolution and spread: a year of milliseconds.
pub const WINDOW_MS_MAX: i64 = 366 * 86_400_000;
/// Producers that a key group of a namespace remembers; beyond it, the one that was silent the longest is
/// forgotten.
pub const PRODUCERS_MAX: usize = 1_024;
/// A checkpoint that is paced, or has to wait, is looked at again after so many milliseconds.
pub const CHECKPOINT_STEP_MS: i64 = 1;
