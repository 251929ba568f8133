//! From the fields of a request to an operation, and from what came of it to its answer.
//!
//! Here is decided what the fields mean together: which ones an operation takes, which it needs,
//! what contradicts what, and the bounds that can be checked without looking at a timer. Lines of
//! batches and rows of Arrow go through [`with_op`], bodies of single requests through
//! [`RegisterBody`] and [`parse_touch`].

use super::fields::{Field, FieldSet, Fields, KeyField, OpWord, PayloadField, Place, read};
use super::json::{push_base64, push_int, push_text};
use super::key::{check_length, format_key, parse_key};
use super::problem::{Problem, kinds};
use super::time::{TimeFormat, write_time};
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::borrow::Cow;
use stormwheel::error::Rejection;
use stormwheel::function::TimerId;
use stormwheel::limits::{NAME_BYTES_MAX, WINDOW_MS_MAX};
use stormwheel::namespace::NamespaceConfig;
use stormwheel::op::{
    Action, Applied, DEFAULT_TIMER_NAME, Only, Op, Payload, PayloadBuf, Register, ResultKind,
    Target, TimerView, When,
};
use stormwheel::time::Domain;

pub use super::fields::parse_domain;

const REGISTRATION: FieldSet = FieldSet::of(&[
    Field::At,
    Field::After,
    Field::Domain,
    Field::Payload,
    Field::PayloadBase64,
    Field::Spread,
    Field::Resolution,
    Field::Only,
]);
const TOUCH: FieldSet = FieldSet::of(&[Field::Name, Field::After, Field::Domain]);
const DELETE: FieldSet = FieldSet::of(&[
    Field::Name,
    Field::At,
    Field::FireAt,
    Field::Domain,
    Field::Spread,
    Field::Resolution,
]);
const ADDRESS: FieldSet = FieldSet::of(&[Field::Op, Field::Key]);

/// Standard base64; the padding may be left out.
const PAYLOAD_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Everything a registration body says, checked. `with_key` turns it into an operation.
#[derive(Debug, Clone)]
pub struct RegisterBody {
    registration: Registration<'static>,
}

impl RegisterBody {
    /// From the body of `PUT …/timers/{name}` or `POST …/timers`.
    pub fn parse(body: &[u8], config: &NamespaceConfig) -> Result<Self, Problem> {
        let fields = read(body, REGISTRATION, Place::Body)?;
        let registration = Registration::from_fields(&fields, config)?.into_owned();
        Ok(Self { registration })
    }

    /// `If-None-Match: *`; another condition in the body contradicts it and is a problem.
    pub fn set_only_absent(&mut self) -> Result<(), Problem> {
        if !matches!(self.registration.only, Only::Always | Only::Absent) {
            let detail = "`If-None-Match: *` means absent, and the body says something else";
            return Err(contradiction("only", detail));
        }
        self.registration.only = Only::Absent;
        Ok(())
    }

    /// The domain it says.
    pub fn domain(&self) -> Domain {
        self.registration.domain.unwrap_or_default()
    }

    /// `?domain=` on the path; a contradiction with the body is a problem.
    pub fn set_domain(&mut self, domain: Domain) -> Result<(), Problem> {
        if let Some(said) = self.registration.domain
            && said != domain
        {
            let detail =
                format!("the body says {} and the query says {}", said.as_str(), domain.as_str());
            return Err(Problem::new(&kinds::INVALID_FIELD, detail).field("domain"));
        }
        self.registration.domain = Some(domain);
        Ok(())
    }

    /// The operation on this key, named or not.
    pub fn with_key<'a>(&'a self, key: &'a [u8], name: Option<&'a str>) -> Op<'a> {
        Op { key, action: Action::Register(self.registration.register(name)) }
    }
}

/// What a registration says about its timer, key and name aside.
#[derive(Debug, Clone)]
struct Registration<'a> {
    domain: Option<Domain>,
    when: When,
    payload: Option<PayloadCow<'a>>,
    resolution_ms: Option<i64>,
    spread_ms: Option<i64>,
    only: Only,
}

#[derive(Debug, Clone)]
enum PayloadCow<'a> {
    Json(Cow<'a, [u8]>),
    Binary(Cow<'a, [u8]>),
}

impl<'a> Registration<'a> {
    fn from_fields(fields: &Fields<'a>, config: &NamespaceConfig) -> Result<Self, Problem> {
        let when = match (fields.at, fields.after_ms) {
            (Some(at), None) => When::At(at),
            (None, Some(after_ms)) => When::After(check_after(after_ms)?),
            (None, None) => return Err(missing("at", "say when: `at` or `after`")),
            (Some(_), Some(_)) => {
                return Err(contradiction("after", "say `at` or `after`, not both"));
            }
        };
        Ok(Self {
            domain: fields.domain,
            when,
            payload: PayloadCow::from_fields(fields, config)?,
            resolution_ms: check_window("resolution", fields.resolution_ms, 1)?,
            spread_ms: check_window("spread", fields.spread_ms, 0)?,
            only: fields.only.unwrap_or_default(),
        })
    }

    fn register<'b>(&'b self, name: Option<&'b str>) -> Register<'b> {
        Register {
            domain: self.domain.unwrap_or_default(),
            name,
            when: self.when,
            payload: self.payload.as_ref().map(|payload| match payload {
                PayloadCow::Json(json) => Payload::Json(json),
                PayloadCow::Binary(bytes) => Payload::Binary(bytes),
            }),
            resolution_ms: self.resolution_ms,
            spread_ms: self.spread_ms,
            only: self.only,
        }
    }

    fn into_owned(self) -> Registration<'static> {
        Registration {
            domain: self.domain,
            when: self.when,
            payload: self.payload.map(|payload| match payload {
                PayloadCow::Json(json) => PayloadCow::Json(json.into_owned().into()),
                PayloadCow::Binary(bytes) => PayloadCow::Binary(bytes.into_owned().into()),
            }),
            resolution_ms: self.resolution_ms,
            spread_ms: self.spread_ms,
            only: self.only,
        }
    }
}

impl<'a> PayloadCow<'a> {
    fn from_fields(fields: &Fields<'a>, config: &NamespaceConfig) -> Result<Option<Self>, Problem> {
        let payload = match (fields.payload, &fields.payload_base64) {
            (None, None) => return Ok(None),
            (Some(PayloadField::Json(json)), None) => Self::Json(json.as_bytes().into()),
            (Some(PayloadField::Raw(bytes)), None) => Self::Binary(bytes.into()),
            (None, Some(text)) => Self::Binary(decode_base64(Field::PayloadBase64, text)?.into()),
            (Some(_), Some(_)) => {
                let detail = "say `payload` or `payload_base64`, not both";
                return Err(contradiction("payload_base64", detail));
            }
        };
        let (Self::Json(bytes) | Self::Binary(bytes)) = &payload;
        let limit = config.limits.payload_bytes;
        if bytes.len() > limit {
            let actual = bytes.len();
            return Err(Rejection::PayloadTooLarge { limit, actual }.into());
        }
        Ok(Some(payload))
    }
}

/// The bytes that a field says in base64.
pub(super) fn decode_base64(field: Field, text: &str) -> Result<Vec<u8>, Problem> {
    PAYLOAD_BASE64.decode(text.as_bytes()).map_err(|error| {
        let field = field.as_str();
        let detail = format!("{field} is not standard base64: {error}");
        Problem::new(&kinds::INVALID_FIELD, detail).field(field)
    })
}

/// The key that a line or a row says; `otherwise` is what is told if it says none.
#[inline]
pub(super) fn key_of<'a>(
    fields: &'a Fields<'_>,
    otherwise: &str,
) -> Result<Cow<'a, [u8]>, Problem> {
    match &fields.key {
        Some(KeyField::Text(text)) => parse_key(text),
        Some(KeyField::Raw(bytes)) => {
            check_length(bytes)?;
            Ok(Cow::Borrowed(*bytes))
        }
        None => Err(missing("key", otherwise)),
    }
}

/// Makes an operation of the fields of a line or a row, and hands it on.
pub(crate) fn with_op(
    fields: &Fields<'_>,
    config: &NamespaceConfig,
    take: impl FnOnce(&Op<'_>) -> Result<(), Rejection>,
) -> Result<(), Problem> {
    let Some(word) = fields.op else {
        let detail = "say what to do: `op` is register, delete, touch or delete_all";
        return Err(missing("op", detail));
    };
    let key = key_of(fields, "every operation needs a `key`")?;
    let key = key.as_ref();
    let name = fields.name.as_deref().map(check_name).transpose()?;
    let domain = fields.domain.unwrap_or_default();
    // The registration borrows its payload, so it has to outlive the operation made of it.
    let registration;
    let action = match word {
        OpWord::Register => {
            check_takes(fields, word, REGISTRATION.with(Field::Name))?;
            registration = Registration::from_fields(fields, config)?;
            Action::Register(registration.register(name))
        }
        OpWord::Touch => {
            check_takes(fields, word, TOUCH)?;
            Action::Touch {
                name: name.unwrap_or(DEFAULT_TIMER_NAME),
                domain,
                after_ms: touch_after_ms(fields, config)?,
            }
        }
        OpWord::Delete => {
            check_takes(fields, word, DELETE)?;
            let target = delete_target(fields, name)?;
            Action::Delete { domain, target }
        }
        OpWord::DeleteAll => {
            check_takes(fields, word, FieldSet::default())?;
            Action::DeleteAll
        }
    };
    take(&Op { key, action }).map_err(Problem::from)
}

fn delete_target<'a>(fields: &Fields<'_>, name: Option<&'a str>) -> Result<Target<'a>, Problem> {
    let target = match (name, fields.at, fields.fire_at) {
        (Some(name), None, None) => Target::Name(name),
        (None, Some(at), None) => Target::At {
            at,
            resolution_ms: check_window("resolution", fields.resolution_ms, 1)?,
            spread_ms: check_window("spread", fields.spread_ms, 0)?,
        },
        (None, None, Some(fire_at)) => Target::FireAt(fire_at),
        (None, None, None) => {
            let detail = "say which timer: `name`, `at` or `fire_at` (delete_all cancels all)";
            return Err(missing("name", detail));
        }
        _ => {
            let detail = "say one of `name`, `at` and `fire_at`";
            return Err(contradiction("name", detail));
        }
    };
    let rounds = fields.resolution_ms.or(fields.spread_ms).is_some();
    if rounds && !matches!(target, Target::At { .. }) {
        let detail = "`resolution` and `spread` go with `at`; a name or a fire_at is exact";
        return Err(contradiction("at", detail));
    }
    Ok(target)
}

/// From the body of `POST …/touch`: name and after (an empty body takes `touch_after`).
pub fn parse_touch(
    body: &[u8],
    config: &NamespaceConfig,
) -> Result<(String, Domain, i64), Problem> {
    let fields = if body.trim_ascii().is_empty() {
        Fields::default()
    } else {
        read(body, TOUCH, Place::Body)?
    };
    let name = check_name(fields.name.as_deref().unwrap_or(DEFAULT_TIMER_NAME))?;
    let after_ms = touch_after_ms(&fields, config)?;
    Ok((name.to_owned(), fields.domain.unwrap_or_default(), after_ms))
}

fn touch_after_ms(fields: &Fields<'_>, config: &NamespaceConfig) -> Result<i64, Problem> {
    let after_ms = fields.after_ms.or(config.touch_after_ms).ok_or_else(|| {
        let detail = "say `after`; this namespace has no `touch_after` to take its place";
        missing("after", detail)
    })?;
    check_after(after_ms)
}

/// Refuses a timer's name that is empty or too long.
pub fn check_name(name: &str) -> Result<&str, Problem> {
    match name.len() {
        0 => Err(Rejection::NameEmpty.into()),
        actual if actual > NAME_BYTES_MAX => {
            Err(Rejection::NameTooLong { limit: NAME_BYTES_MAX, actual }.into())
        }
        _ => Ok(name),
    }
}

fn check_after(after_ms: i64) -> Result<i64, Problem> {
    if after_ms < 0 {
        return Err(Rejection::DurationNegative { field: "after" }.into());
    }
    Ok(after_ms)
}

/// Refuses a `resolution` or `spread` (named by `field`) that is out of bounds.
pub fn check_window(
    field: &'static str,
    millis: Option<i64>,
    least_ms: i64,
) -> Result<Option<i64>, Problem> {
    match millis {
        Some(millis) if millis < 0 => Err(Rejection::DurationNegative { field }.into()),
        Some(millis) if !(least_ms..=WINDOW_MS_MAX).contains(&millis) => {
            let detail =
                format!("{field} is {millis} ms, allowed is {least_ms} ms to {WINDOW_MS_MAX} ms");
            Err(Problem::new(&kinds::INVALID_DURATION, detail)
                .field(field)
                .bound(WINDOW_MS_MAX as u64, millis as u64))
        }
        within => Ok(within),
    }
}

fn check_takes(fields: &Fields<'_>, word: OpWord, takes: FieldSet) -> Result<(), Problem> {
    let Some(field) = fields.given.first_beyond(takes.union(ADDRESS)) else {
        return Ok(());
    };
    let (field, word) = (field.as_str(), word.as_str());
    let detail = match takes.list() {
        none if none.is_empty() => format!("`{word}` does not take `{field}`, only a key"),
        some => format!("`{word}` does not take `{field}`; it takes {some}"),
    };
    Err(Problem::new(&kinds::UNKNOWN_FIELD, detail).field(field))
}

pub(super) fn missing(field: &str, detail: &str) -> Problem {
    Problem::new(&kinds::MISSING_FIELD, detail).field(field)
}

pub(super) fn contradiction(field: &str, detail: &str) -> Problem {
    Problem::new(&kinds::INVALID_FIELD, detail).field(field)
}

/// The answer to a registration, a touch or a delete: which timer it is, then what was done.
pub fn applied_json(
    key: Option<&[u8]>,
    name: Option<&str>,
    domain: Option<Domain>,
    applied: &Applied,
    times: TimeFormat,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    out.push(b'{');
    if let Some(key) = key {
        out.extend_from_slice(b"\"key\":");
        push_text(&mut out, &format_key(key));
        out.push(b',');
    }
    if let Some(name) = name {
        out.extend_from_slice(b"\"name\":");
        push_text(&mut out, name);
        out.push(b',');
    }
    if let Some(domain) = domain {
        out.extend_from_slice(b"\"domain\":");
        push_text(&mut out, domain.as_str());
        out.push(b',');
    }
    if let Some(fire_at) = applied.fire_at {
        out.extend_from_slice(b"\"fire_at\":");
        write_time(&mut out, fire_at, times);
        out.push(b',');
    }
    write_result(&mut out, applied);
    write_consequences(&mut out, applied);
    out.push(b'}');
    out
}

/// Appends the members of a batch's line that say what an operation did.
pub(crate) fn write_applied(out: &mut Vec<u8>, applied: &Applied, times: TimeFormat) {
    write_result(out, applied);
    if let Some(fire_at) = applied.fire_at {
        out.extend_from_slice(b",\"fire_at\":");
        write_time(out, fire_at, times);
    }
    write_consequences(out, applied);
}

fn write_result(out: &mut Vec<u8>, applied: &Applied) {
    out.extend_from_slice(b"\"result\":\"");
    out.extend_from_slice(applied.result.as_str().as_bytes());
    out.push(b'"');
}

fn write_consequences(out: &mut Vec<u8>, applied: &Applied) {
    if matches!(applied.result, ResultKind::Cancelled | ResultKind::Absent) {
        out.extend_from_slice(b",\"cancelled\":");
        push_int(out, applied.cancelled);
    }
    if applied.overdue {
        out.extend_from_slice(b",\"overdue\":true");
    }
}

/// A timer as JSON.
pub fn write_timer(
    out: &mut Vec<u8>,
    timer: &TimerView,
    config: &NamespaceConfig,
    times: TimeFormat,
) {
    out.extend_from_slice(b"{\"key\":");
    push_text(out, &format_key(&timer.key));
    let name = timer.name.as_deref();
    let id = name.filter(|_| config.runs_function()).map(|name| TimerId::of_stored(Some(name)));
    if let Some(namespace) = id.as_ref().and_then(TimerId::namespace) {
        out.extend_from_slice(b",\"timer_namespace\":");
        push_text(out, &format_key(namespace));
    } else if let Some(name) = name {
        out.extend_from_slice(b",\"name\":");
        push_text(out, name);
    }
    out.extend_from_slice(b",\"domain\":");
    push_text(out, timer.domain.as_str());
    out.extend_from_slice(b",\"fire_at\":");
    write_time(out, timer.fire_at, times);
    match &timer.payload {
        None => {}
        Some(PayloadBuf::Json(json)) => {
            out.extend_from_slice(b",\"payload\":");
            out.extend_from_slice(json);
        }
        Some(PayloadBuf::Binary(bytes)) => {
            out.extend_from_slice(b",\"payload_base64\":");
            push_base64(out, bytes);
        }
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests;
