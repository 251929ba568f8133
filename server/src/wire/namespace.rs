//! The configuration of a namespace in JSON: durations as text, as api.md shows it.
//!
//! Reading walks the document field by field, so that every error names the field by its path.
//! Fields that the interface has but this version does not implement are accepted at their
//! default, where they promise nothing, and refused otherwise.

use super::document::parse_document;
use super::problem::{Problem, kinds};
use serde_json::{Map, Value, json};
use stormwheel::duration::{format_duration, parse_duration};
use stormwheel::namespace::{
    ClockKind, ErrorPolicy, LateElements, LateTimers, NamespaceConfig, NamespaceLimits,
    OPERATOR_TIMERS, OnError, OverduePolicy, Retention, WatermarkConfig,
};
use stormwheel::text::clip;

/// The whole configuration, from a `PUT` body: what is left out is the default.
pub fn parse_config(body: &[u8]) -> Result<NamespaceConfig, Problem> {
    config_of(parse_body(body)?)
}

/// `PATCH`: a JSON merge patch (RFC 7396) onto what stands.
pub fn merge_config(standing: &NamespaceConfig, body: &[u8]) -> Result<NamespaceConfig, Problem> {
    let mut merged = config_json(standing);
    let patch = parse_body(body)?;
    forget_with(&mut merged, &patch, ["overdue", "policy", "spread", "over"]);
    forget_with(&mut merged, &patch, ["watermark", "strategy", "bounded", "delay"]);
    merge(&mut merged, patch);
    config_of(merged)
}

/// As api.md shows it.
pub fn config_json(config: &NamespaceConfig) -> Value {
    let mut it = plain_json(config);
    if config.runs_function() {
        // What only a function has to do with.
        if !config.options.is_null() {
            it["options"] = config.options.clone();
        }
        it["lateness"] = json!(format_duration(config.lateness_ms));
        it["late_elements"] = json!(word_of(&LATE_ELEMENTS, config.late_elements));
        it["on_error"] = json!({
            "retry": config.on_error.retry,
            "backoff": format_duration(config.on_error.backoff_ms),
            "then": word_of(&ERROR_POLICIES, config.on_error.then),
        });
    }
    it
}

const LATE_ELEMENTS: [(&str, LateElements); 3] = [
    ("drop", LateElements::Drop),
    ("side_output", LateElements::SideOutput),
    ("process", LateElements::Process),
];
const ERROR_POLICIES: [(&str, ErrorPolicy); 2] =
    [("stop", ErrorPolicy::Stop), ("skip", ErrorPolicy::Skip)];

fn word_of<T: PartialEq + Copy>(words: &[(&'static str, T)], value: T) -> Option<&'static str> {
    words.iter().find(|(_, known)| *known == value).map(|(word, _)| *word)
}

fn plain_json(config: &NamespaceConfig) -> Value {
    json!({
        "operator": config.operator,
        "clock": match config.clock {
            ClockKind::System => "system",
            ClockKind::Manual => "manual",
        },
        "resolution": format_duration(config.resolution_ms),
        "spread": format_duration(config.spread_ms),
        "late_timers": match config.late_timers {
            LateTimers::Fire => "fire",
            LateTimers::NextWatermark => "next_watermark",
        },
        "watermark": watermark_json(&config.watermark),
        "retention": {
            "age": format_duration(config.retention.age_ms),
            "bytes": format_bytes(config.retention.bytes),
        },
        "overdue": overdue_json(config.overdue),
        "touch_after": config.touch_after_ms.map(format_duration),
        "limits": {
            "timers": config.limits.timers,
            "timers_per_key": config.limits.timers_per_key,
            "payload_bytes": config.limits.payload_bytes,
        },
    })
}

fn watermark_json(watermark: &WatermarkConfig) -> Value {
    let mut it = json!({
        "strategy": "explicit",
        "sources": watermark.sources,
        "idle_after": watermark.idle_after_ms.map(format_duration),
    });
    if let Some(delay_ms) = watermark.delay_ms {
        it["strategy"] = json!("bounded");
        it["delay"] = json!(format_duration(delay_ms));
    }
    it
}

fn overdue_json(overdue: OverduePolicy) -> Value {
    match overdue {
        OverduePolicy::Fire => json!({ "policy": "fire" }),
        OverduePolicy::Spread { over_ms } => {
            json!({ "policy": "spread", "over": format_duration(over_ms) })
        }
        OverduePolicy::Shift => json!({ "policy": "shift" }),
        OverduePolicy::Drop => json!({ "policy": "drop" }),
    }
}

/// A patch to another word than `owner` takes the field away that belonged to that.
fn forget_with(standing: &mut Value, patch: &Value, names: [&str; 4]) {
    let [section, word, owner, field] = names;
    let patched = patch.get(section).and_then(|section| section.get(word));
    if patched.is_some_and(|word| word != owner)
        && let Some(section) = standing.get_mut(section).and_then(Value::as_object_mut)
    {
        section.remove(field);
    }
}

fn parse_body(body: &[u8]) -> Result<Value, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    parse_document(body)
}

/// RFC 7396: objects merge, `null` takes away, all else replaces.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else {
        return;
    };
    for (name, change) in patch {
        if change.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), change);
        }
    }
}

fn config_of(document: Value) -> Result<NamespaceConfig, Problem> {
    let defaults = NamespaceConfig::default();
    let mut top = Section::open("", document)?;
    let operator = top.text("operator")?.unwrap_or(defaults.operator);
    let function = function_of(&mut top, operator != OPERATOR_TIMERS)?;
    let config = NamespaceConfig {
        operator,
        clock: top
            .word("clock", &[("system", ClockKind::System), ("manual", ClockKind::Manual)])?,
        resolution_ms: top.duration("resolution")?.unwrap_or(defaults.resolution_ms),
        spread_ms: top.duration("spread")?.unwrap_or(defaults.spread_ms),
        late_timers: top.word(
            "late_timers",
            &[("fire", LateTimers::Fire), ("next_watermark", LateTimers::NextWatermark)],
        )?,
        touch_after_ms: top.optional("touch_after", Section::duration)?,
        watermark: watermark_of(top.section("watermark")?)?,
        overdue: overdue_of(top.section("overdue")?)?,
        retention: retention_of(top.section("retention")?)?,
        limits: limits_of(top.section("limits")?)?,
        ..function
    };
    top.close()?;
    config.validate()?;
    Ok(config)
}

/// What only a function has to do with; `timers` takes it at its default, where it promises nothing.
fn function_of(top: &mut Section, is_function: bool) -> Result<NamespaceConfig, Problem> {
    let defaults = NamespaceConfig::default();
    if !is_function {
        top.section("options")?.close()?;
        top.only_duration("lateness", 0)?;
        top.only("late_elements", &json!("drop"))?;
        let mut on_error = top.section("on_error")?;
        on_error.only("retry", &json!(3))?;
        on_error.only_duration("backoff", 1_000)?;
        on_error.only("then", &json!("stop"))?;
        on_error.close()?;
        return Ok(defaults);
    }
    let options = top.take("options").unwrap_or(Value::Null);
    let lateness_ms = top.duration("lateness")?.unwrap_or(defaults.lateness_ms);
    let late_elements = top.word("late_elements", &LATE_ELEMENTS)?;
    let mut section = top.section("on_error")?;
    let retry = section.count("retry")?.map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    let retry = retry.unwrap_or(defaults.on_error.retry);
    let backoff_ms = section.duration("backoff")?.unwrap_or(defaults.on_error.backoff_ms);
    let on_error = OnError { retry, backoff_ms, then: section.word("then", &ERROR_POLICIES)? };
    section.close()?;
    Ok(NamespaceConfig { options, lateness_ms, late_elements, on_error, ..defaults })
}

fn watermark_of(mut section: Section) -> Result<WatermarkConfig, Problem> {
    let is_bounded = section.word("strategy", &[("explicit", false), ("bounded", true)])?;
    let delay_ms = section.optional("delay", Section::duration)?;
    let path = section.path("delay");
    let config = WatermarkConfig {
        sources: section.texts("sources")?,
        idle_after_ms: section.optional("idle_after", Section::duration)?,
        delay_ms: if is_bounded { delay_ms.or(Some(0)) } else { None },
    };
    section.close()?;
    if !is_bounded && delay_ms.is_some_and(|delay_ms| delay_ms != 0) {
        return Err(invalid(&path, "only the strategy `bounded` has one"));
    }
    Ok(config)
}

fn overdue_of(mut section: Section) -> Result<OverduePolicy, Problem> {
    // Without `over` it stands for none: what is missing is said below.
    const SPREAD: OverduePolicy = OverduePolicy::Spread { over_ms: 0 };
    let policy = section.word(
        "policy",
        &[
            ("fire", OverduePolicy::Fire),
            ("spread", SPREAD),
            ("shift", OverduePolicy::Shift),
            ("drop", OverduePolicy::Drop),
        ],
    )?;
    let over_ms = section.optional("over", Section::duration)?;
    let path = section.path("over");
    section.close()?;
    match (policy, over_ms) {
        (OverduePolicy::Spread { .. }, Some(over_ms)) => Ok(OverduePolicy::Spread { over_ms }),
        (OverduePolicy::Spread { .. }, None) => {
            Err(invalid(&path, "`spread` has to say over how long, such as \"10m\""))
        }
        (_, Some(_)) => Err(invalid(&path, "only `spread` has it")),
        (policy, None) => Ok(policy),
    }
}

fn retention_of(mut section: Section) -> Result<Retention, Problem> {
    let defaults = Retention::default();
    let retention = Retention {
        age_ms: section.duration("age")?.unwrap_or(defaults.age_ms),
        bytes: section.bytes("bytes")?.unwrap_or(defaults.bytes),
    };
    section.close()?;
    Ok(retention)
}

fn limits_of(mut section: Section) -> Result<NamespaceLimits, Problem> {
    let defaults = NamespaceLimits::default();
    let limits = NamespaceLimits {
        timers: section.optional("timers", Section::count)?,
        timers_per_key: match section.count("timers_per_key")? {
            // What does not fit is far above what is allowed; `validate` says how much that is.
            Some(count) => u32::try_from(count).unwrap_or(u32::MAX),
            None => defaults.timers_per_key,
        },
        payload_bytes: match section.bytes("payload_bytes")? {
            Some(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
            None => defaults.payload_bytes,
        },
    };
    section.close()?;
    Ok(limits)
}

/// One object of the document; fields are taken out of it, and at the end none may be left.
struct Section {
    path: String,
    members: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Section {
    fn open(path: &str, value: Value) -> Result<Self, Problem> {
        match value {
            Value::Object(members) => {
                Ok(Self { path: path.to_owned(), members, known: Vec::new() })
            }
            other if path.is_empty() => {
                let detail = format!("a JSON object was expected, not {}", shown(&other));
                Err(Problem::new(&kinds::INVALID_JSON, detail))
            }
            other => Err(wrong(path, "an object", &other)),
        }
    }

    fn close(self) -> Result<(), Problem> {
        let Some(name) = self.members.keys().next() else {
            return Ok(());
        };
        let path = self.path(clip(name));
        let detail = if self.known.is_empty() {
            format!("there is no field `{path}`; `{}` has none", self.path)
        } else {
            format!("there is no field `{path}`; there are {}", {
                let known: Vec<_> = self.known.iter().map(|name| format!("`{name}`")).collect();
                known.join(", ")
            })
        };
        Err(Problem::new(&kinds::UNKNOWN_FIELD, detail).field(path))
    }

    fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.members.remove(name)
    }

    fn section(&mut self, name: &'static str) -> Result<Self, Problem> {
        let value = self.take(name).unwrap_or_else(|| json!({}));
        Self::open(&self.path(name), value)
    }

    /// A field for which `null` means "none".
    fn optional<T>(
        &mut self,
        name: &'static str,
        read: fn(&mut Self, &'static str) -> Result<Option<T>, Problem>,
    ) -> Result<Option<T>, Problem> {
        if self.members.get(name).is_some_and(Value::is_null) {
            self.take(name);
            return Ok(None);
        }
        read(self, name)
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(&self.path(name), "text", &other)),
        }
    }

    fn texts(&mut self, name: &'static str) -> Result<Vec<String>, Problem> {
        let path = self.path(name);
        let array = match self.take(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(array)) => array,
            Some(other) => return Err(wrong(&path, "an array of texts", &other)),
        };
        let texts = array.into_iter().map(|element| match element {
            Value::String(text) => Ok(text),
            other => Err(wrong(&path, "an array of texts", &other)),
        });
        texts.collect()
    }

    /// One of these words; without it, the first.
    fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Result<T, Problem> {
        let Some(text) = self.text(name)? else {
            return Ok(words[0].1);
        };
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            let detail = format!("is `{}`, allowed are {}", clip(&text), known.join(", "));
            invalid(&self.path(name), &detail)
        })
    }

    fn duration(&mut self, name: &'static str) -> Result<Option<i64>, Problem> {
        let path = self.path(name);
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => {
                parse_duration(&text).map(Some).map_err(|detail| invalid(&path, &detail))
            }
            Some(other) => {
                let expected = "a duration as text, such as \"90s\" or \"1h30m\"";
                Err(wrong(&path, expected, &other))
            }
        }
    }

    fn count(&mut self, name: &'static str) -> Result<Option<u64>, Problem> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(count) => Ok(Some(count)),
                None => Err(wrong(&self.path(name), "a whole number, not negative", &value)),
            },
        }
    }

    fn bytes(&mut self, name: &'static str) -> Result<Option<u64>, Problem> {
        let path = self.path(name);
        match self.take(name) {
            Some(Value::String(text)) => {
                parse_bytes(&text).map(Some).map_err(|detail| invalid(&path, &detail))
            }
            Some(value) => match value.as_u64() {
                Some(bytes) => Ok(Some(bytes)),
                None => {
                    Err(wrong(&path, "bytes: a whole number, or text such as \"10GiB\"", &value))
                }
            },
            None => Ok(None),
        }
    }

    /// A field that this version knows, but only with this value.
    fn only(&mut self, name: &'static str, value: &Value) -> Result<(), Problem> {
        match self.take(name) {
            Some(other) if other != *value => Err(self.not_yet(name, &value.to_string())),
            _ => Ok(()),
        }
    }

    fn only_duration(&mut self, name: &'static str, millis: i64) -> Result<(), Problem> {
        match self.duration(name)? {
            Some(other) if other != millis => {
                let value = format!("\"{}\"", format_duration(millis));
                Err(self.not_yet(name, &value))
            }
            _ => Ok(()),
        }
    }

    fn not_yet(&self, name: &str, value: &str) -> Problem {
        let path = self.path(name);
        let detail = format!("this version does not have other values yet, only {value}");
        invalid(&path, &detail)
    }
}

fn invalid(path: &str, detail: &str) -> Problem {
    Problem::new(&kinds::INVALID_OPTION, format!("{path}: {detail}")).field(path)
}

fn wrong(path: &str, expected: &str, value: &Value) -> Problem {
    let detail = format!("is {}, expected is {expected}", shown(value));
    invalid(path, &detail)
}

/// What an error repeats of a value.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => format!("\"{}\"", clip(text)),
        plain => plain.to_string(),
    }
}

/// From the largest to the smallest; sizes are written in the first one that is whole.
const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Bytes, from "10GiB", "512MiB", "1GB" or "65536".
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let unit_bytes = match unit {
        "" => Some(1),
        "KB" => Some(1_000),
        _ => BYTE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| *bytes),
    };
    let (false, Some(unit_bytes)) = (number.is_empty(), unit_bytes) else {
        return Err(format!(
            "`{}` is no size: write for example 10GiB, 512MiB, 1GB or 65536",
            clip(text)
        ));
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit_bytes))
        .ok_or_else(|| format!("`{}` leaves the range of 64 bits", clip(text)))
}

/// The inverse of [`parse_bytes`]: text with the largest unit that is whole, or a plain number.
pub fn format_bytes(bytes: u64) -> Value {
    let unit = BYTE_UNITS
        .iter()
        .find(|(unit, unit_bytes)| *unit != "B" && bytes > 0 && bytes.is_multiple_of(*unit_bytes));
    match unit {
        Some((unit, unit_bytes)) => json!(format!("{}{unit}", bytes / unit_bytes)),
        None => json!(bytes),
    }
}

#[cfg(test)]
mod tests;
