//! The record codec: bytes in, bytes out.
//!
//! A request's operations are written down once, where they come in; from there to the log they
//! travel as these bytes, and a shard applies them from the bytes. A record does not carry its
//! position: it has the one that its lane gives it.
//!
//! ```text
//!  0      1       2         4         8           16     24
//!  | kind | flags | key len | body len | namespace | time | …
//!
//!  operations on a key (body len is that of the payload):
//!  24  resolution i64?  spread i64?  name len u8?  key  name?  payload?
//!
//!  element (an operation too; the input stands in the flags, time is its timestamp):  24  key  value
//!
//!  tick (time is what the clock reached):          24  namespace u64 …
//!  produced (key len is that of the producer's name, body len the operation's index in its request,
//!  time the sequence of the request):                24  name  operation on a key
//!  step (time is the number of the control record): 24  JSON of the change
//!  control (in a namespace's home lane):           24  JSON of the command
//!  overdue (flags is the policy, time is `to`):     24  from i64  over i64
//! ```

use crate::namespace::OverduePolicy;
use crate::op::{Action, DEFAULT_TIMER_NAME, Element, Only, Op, Payload, Register, Target, When};
use crate::output::NamespaceId;
use crate::time::{Domain, Timestamp};

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Register = 1,
    Touch = 2,
    Delete = 3,
    DeleteAll = 4,
    Tick = 5,
    Step = 6,
    Control = 7,
    Produced = 8,
    Overdue = 9,
    Element = 10,
}

const HEAD_BYTES: usize = 24;

const EVENT: u8 = 1;
const NAMED: u8 = 2;
/// Register: the time counts from now. Delete: the time is exact.
const VARIANT: u8 = 4;
const RESOLUTION: u8 = 8;
const SPREAD: u8 = 16;
const ONLY_SHIFT: u8 = 5;
/// Elements have an input where registrations have their condition.
const INPUT_SHIFT: u8 = 5;

const OVERDUE_BODY_BYTES: usize = 16;

const BODY_NONE: u32 = u32::MAX;
const BODY_BINARY: u32 = 1 << 31;

/// A decoded record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// An operation on a key.
    Key(KeyRecord<'a>),
    /// The clock has reached `now` in these namespaces.
    Tick { now: Timestamp, namespaces: Vec<NamespaceId> },
    /// A numbered control record of a namespace.
    Step { namespace: NamespaceId, number: u64, change: &'a [u8] },
    /// A command to a namespace as a whole.
    Control(&'a [u8]),
    /// What becomes of the timers of a namespace that were due at a restart.
    Overdue(Overdue),
}

/// What becomes of the timers of a namespace that were due at a restart: time has come to `to`, and
/// nothing could fire since `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overdue {
    pub(crate) namespace: NamespaceId,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) policy: OverduePolicy,
}

/// An operation on a key of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyRecord<'a> {
    pub(crate) namespace: NamespaceId,
    pub(crate) op: Op<'a>,
    /// Who sent it, if it is to be taken once only.
    pub(crate) produced: Option<Produced<'a>>,
}

/// Which operation of which producer it is. Later ones of the same producer are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Produced<'a> {
    pub(crate) producer: &'a str,
    /// Of the request.
    pub(crate) sequence: u64,
    /// Of the operation in the request.
    pub(crate) index: u32,
}

/// Appends an operation. Its fields are within their limits.
#[inline]
pub(crate) fn encode_op(out: &mut Vec<u8>, namespace: NamespaceId, op: &Op<'_>) {
    let mut head = Head { namespace, key_len: op.key.len(), ..Head::default() };
    match &op.action {
        Action::Register(register) => encode_register(out, head, op.key, register),
        Action::Touch { name, domain, after_ms } => {
            head.kind = RecordKind::Touch as u8;
            head.flags = event_flag(*domain);
            head.time = *after_ms;
            if *name == DEFAULT_TIMER_NAME {
                // The hot path: the name goes without saying.
                head.write(out);
                out.extend_from_slice(op.key);
                return;
            }
            head.flags |= NAMED;
            head.write(out);
            out.push(name.len() as u8);
            out.extend_from_slice(op.key);
            out.extend_from_slice(name.as_bytes());
        }
        Action::Delete { domain, target } => encode_delete(out, head, op.key, *domain, *target),
        Action::DeleteAll => {
            head.kind = RecordKind::DeleteAll as u8;
            head.write(out);
            out.extend_from_slice(op.key);
        }
        Action::Element(element) => {
            head.kind = RecordKind::Element as u8;
            head.flags = element.input << INPUT_SHIFT;
            head.time = element.timestamp.as_millis();
            head.body = body_of(Some(element.value));
            head.write(out);
            out.extend_from_slice(op.key);
            out.extend_from_slice(element.value.bytes());
        }
    }
}

const fn body_of(payload: Option<Payload<'_>>) -> u32 {
    match payload {
        None => BODY_NONE,
        Some(Payload::Json(text)) => text.len() as u32,
        Some(Payload::Binary(bytes)) => bytes.len() as u32 | BODY_BINARY,
    }
}

#[inline]
fn encode_register(out: &mut Vec<u8>, mut head: Head, key: &[u8], register: &Register<'_>) {
    head.kind = RecordKind::Register as u8;
    head.flags = event_flag(register.domain) | (register.only as u8) << ONLY_SHIFT;
    head.time = match register.when {
        When::At(time) => time.as_millis(),
        When::After(millis) => {
            head.flags |= VARIANT;
            millis
        }
    };
    if register.name.is_some() {
        head.flags |= NAMED;
    }
    head.body = body_of(register.payload);
    head.write_with_windows(out, register.resolution_ms, register.spread_ms);
    if let Some(name) = register.name {
        out.push(name.len() as u8);
    }
    out.extend_from_slice(key);
    out.extend_from_slice(register.name.unwrap_or_default().as_bytes());
    out.extend_from_slice(register.payload.map_or(&[], |payload| payload.bytes()));
}

fn encode_delete(
    out: &mut Vec<u8>,
    mut head: Head,
    key: &[u8],
    domain: Domain,
    target: Target<'_>,
) {
    head.kind = RecordKind::Delete as u8;
    head.flags = event_flag(domain);
    match target {
        Target::Name(name) => {
            head.flags |= NAMED;
            head.write(out);
            out.push(name.len() as u8);
            out.extend_from_slice(key);
            out.extend_from_slice(name.as_bytes());
        }
        Target::At { at, resolution_ms, spread_ms } => {
            head.time = at.as_millis();
            head.write_with_windows(out, resolution_ms, spread_ms);
            out.extend_from_slice(key);
        }
        Target::FireAt(time) => {
            head.flags |= VARIANT;
            head.time = time.as_millis();
            head.write(out);
            out.extend_from_slice(key);
        }
    }
}

/// Appends what stands before an operation that is to be taken once only.
pub(crate) fn encode_produced(out: &mut Vec<u8>, namespace: NamespaceId, it: &Produced<'_>) {
    let head = Head {
        kind: RecordKind::Produced as u8,
        flags: 0,
        key_len: it.producer.len(),
        body: it.index,
        namespace,
        time: it.sequence as i64,
    };
    head.write(out);
    out.extend_from_slice(it.producer.as_bytes());
}

/// Appends a tick.
pub(crate) fn encode_tick(out: &mut Vec<u8>, now: Timestamp, namespaces: &[NamespaceId]) {
    let head = Head {
        kind: RecordKind::Tick as u8,
        body: (namespaces.len() * 8) as u32,
        time: now.as_millis(),
        ..Head::default()
    };
    head.write(out);
    for namespace in namespaces {
        out.extend_from_slice(&namespace.0.to_le_bytes());
    }
}

/// Appends a control record.
pub(crate) fn encode_step(out: &mut Vec<u8>, namespace: NamespaceId, number: u64, change: &[u8]) {
    let head = Head {
        kind: RecordKind::Step as u8,
        body: change.len() as u32,
        namespace,
        time: number as i64,
        ..Head::default()
    };
    head.write(out);
    out.extend_from_slice(change);
}

/// Appends a command to a namespace as a whole.
pub(crate) fn encode_control(out: &mut Vec<u8>, command: &[u8]) {
    let head =
        Head { kind: RecordKind::Control as u8, body: command.len() as u32, ..Head::default() };
    head.write(out);
    out.extend_from_slice(command);
}

/// Appends what becomes of the timers that were due at a restart.
pub(crate) fn encode_overdue(out: &mut Vec<u8>, it: &Overdue) {
    let over_ms = if let OverduePolicy::Spread { over_ms } = it.policy { over_ms } else { 0 };
    let head = Head {
        kind: RecordKind::Overdue as u8,
        flags: it.policy.index() as u8,
        body: OVERDUE_BODY_BYTES as u32,
        namespace: it.namespace,
        time: it.to.as_millis(),
        ..Head::default()
    };
    head.write(out);
    out.extend_from_slice(&it.from.as_millis().to_le_bytes());
    out.extend_from_slice(&over_ms.to_le_bytes());
}

fn split_overdue<'a>(head: &Head, rest: &'a [u8]) -> Option<(Record<'a>, &'a [u8])> {
    let (from, rest) = rest.split_first_chunk::<8>()?;
    let (over_ms, rest) = rest.split_first_chunk::<8>()?;
    if head.body as usize != OVERDUE_BODY_BYTES {
        return None;
    }
    let it = Overdue {
        namespace: head.namespace,
        from: Timestamp::from_millis(i64::from_le_bytes(*from)),
        to: Timestamp::from_millis(head.time),
        policy: OverduePolicy::from_index(head.flags, i64::from_le_bytes(*over_ms))?,
    };
    Some((Record::Overdue(it), rest))
}

/// An operation as far as it must be known to find its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peeked<'a> {
    pub(crate) namespace: NamespaceId,
    pub(crate) key: &'a [u8],
    /// The whole record.
    pub(crate) bytes: &'a [u8],
}

/// Looks at the first record; `None` if it is no operation on a key.
#[inline]
pub(crate) fn peek_operation(bytes: &[u8]) -> Option<Peeked<'_>> {
    let (head, rest) = Head::read(bytes)?;
    if head.kind == RecordKind::Produced as u8 {
        let it = peek_alone(rest.get(head.key_len..)?)?;
        let bytes = bytes.get(..HEAD_BYTES + head.key_len + it.bytes.len())?;
        return Some(Peeked { bytes, ..it });
    }
    peek_alone(bytes)
}

#[inline]
fn peek_alone(bytes: &[u8]) -> Option<Peeked<'_>> {
    let (head, _) = Head::read(bytes)?;
    if head.kind > RecordKind::DeleteAll as u8 && head.kind != RecordKind::Element as u8 {
        return None;
    }
    let windows = (head.flags & (RESOLUTION | SPREAD)).count_ones() as usize * 8;
    let name_len_at = HEAD_BYTES + windows;
    let is_named = head.flags & NAMED != 0;
    let name_len = if is_named { *bytes.get(name_len_at)? as usize } else { 0 };
    let key_at = name_len_at + is_named as usize;
    let payload_len = if head.body == BODY_NONE { 0 } else { head.body & !BODY_BINARY };
    let end = key_at + head.key_len + name_len + payload_len as usize;
    let key = bytes.get(key_at..key_at + head.key_len)?;
    Some(Peeked { namespace: head.namespace, key, bytes: bytes.get(..end)? })
}

/// Takes the first record off. The bytes are ones that this module wrote; what comes from a disk
/// has passed its checksum before it comes here.
pub(crate) fn split_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (head, rest) = Head::read(bytes)?;
    if head.kind == RecordKind::Tick as u8 {
        let (body, rest) = rest.split_at_checked(head.body as usize)?;
        let namespaces = body
            .chunks_exact(8)
            .map(|chunk| NamespaceId(u64::from_le_bytes(chunk.try_into().expect("eight bytes"))))
            .collect();
        return Some((Record::Tick { now: Timestamp::from_millis(head.time), namespaces }, rest));
    }
    if head.kind == RecordKind::Step as u8 {
        let (change, rest) = rest.split_at_checked(head.body as usize)?;
        let (namespace, number) = (head.namespace, head.time as u64);
        return Some((Record::Step { namespace, number, change }, rest));
    }
    if head.kind == RecordKind::Control as u8 {
        let (command, rest) = rest.split_at_checked(head.body as usize)?;
        return Some((Record::Control(command), rest));
    }
    if head.kind == RecordKind::Overdue as u8 {
        return split_overdue(&head, rest);
    }
    let (record, rest) = split_operation(bytes)?;
    Some((Record::Key(record), rest))
}

/// Takes an operation on a key off; `None` if the first record is something else.
#[inline]
pub(crate) fn split_operation(bytes: &[u8]) -> Option<(KeyRecord<'_>, &[u8])> {
    let (head, rest) = Head::read(bytes)?;
    if head.kind == RecordKind::Produced as u8 {
        return split_produced(&head, rest);
    }
    let (op, rest) = split_op(&head, rest)?;
    Some((KeyRecord { namespace: head.namespace, op, produced: None }, rest))
}

#[cold]
fn split_produced<'a>(head: &Head, rest: &'a [u8]) -> Option<(KeyRecord<'a>, &'a [u8])> {
    let (producer, rest) = rest.split_at_checked(head.key_len)?;
    let producer = std::str::from_utf8(producer).ok()?;
    let (sequence, index) = (head.time as u64, head.body);
    let (head, rest) = Head::read(rest)?;
    let (op, rest) = split_op(&head, rest)?;
    let produced = Some(Produced { producer, sequence, index });
    Some((KeyRecord { namespace: head.namespace, op, produced }, rest))
}

#[inline]
fn split_op<'a>(head: &Head, mut rest: &'a [u8]) -> Option<(Op<'a>, &'a [u8])> {
    let mut window = |flag: u8| {
        if head.flags & flag == 0 {
            return Some(None);
        }
        let (bytes, behind) = rest.split_first_chunk::<8>()?;
        rest = behind;
        Some(Some(i64::from_le_bytes(*bytes)))
    };
    let resolution_ms = window(RESOLUTION)?;
    let spread_ms = window(SPREAD)?;
    let mut name_len = None;
    if head.flags & NAMED != 0 {
        let (length, behind) = rest.split_first()?;
        rest = behind;
        name_len = Some(*length as usize);
    }
    let (key, rest) = rest.split_at_checked(head.key_len)?;
    let (name, rest) = rest.split_at_checked(name_len.unwrap_or(0))?;
    let name = match name_len {
        None => None,
        Some(_) => Some(std::str::from_utf8(name).ok()?),
    };
    let payload_len = if head.body == BODY_NONE { 0 } else { head.body & !BODY_BINARY };
    let (payload, rest) = rest.split_at_checked(payload_len as usize)?;
    let domain = if head.flags & EVENT == 0 { Domain::Processing } else { Domain::Event };
    let payload = match head.body {
        BODY_NONE => None,
        body if body & BODY_BINARY == 0 => Some(Payload::Json(payload)),
        _ => Some(Payload::Binary(payload)),
    };
    let time = Timestamp::from_millis(head.time);
    let variant = head.flags & VARIANT != 0;
    let action = match head.kind {
        1 => Action::Register(Register {
            domain,
            name,
            when: if variant { When::After(head.time) } else { When::At(time) },
            payload,
            resolution_ms,
            spread_ms,
            only: match head.flags >> ONLY_SHIFT {
                0 => Only::Always,
                1 => Only::Absent,
                2 => Only::Present,
                3 => Only::Earlier,
                _ => Only::Later,
            },
        }),
        2 => {
            Action::Touch { name: name.unwrap_or(DEFAULT_TIMER_NAME), domain, after_ms: head.time }
        }
        3 => Action::Delete {
            domain,
            target: match (name, variant) {
                (Some(name), _) => Target::Name(name),
                (None, true) => Target::FireAt(time),
                (None, false) => Target::At { at: time, resolution_ms, spread_ms },
            },
        },
        4 => Action::DeleteAll,
        10 => {
            let (timestamp, input) = (time, head.flags >> INPUT_SHIFT);
            Action::Element(Element { timestamp, input, value: payload? })
        }
        _ => return None,
    };
    Some((Op { key, action }, rest))
}

const fn event_flag(domain: Domain) -> u8 {
    match domain {
        Domain::Event => EVENT,
        Domain::Processing => 0,
    }
}

/// The fixed part of a record.
struct Head {
    kind: u8,
    flags: u8,
    key_len: usize,
    body: u32,
    namespace: NamespaceId,
    time: i64,
}

impl Default for Head {
    fn default() -> Self {
        Self { kind: 0, flags: 0, key_len: 0, body: BODY_NONE, namespace: NamespaceId(0), time: 0 }
    }
}

impl Head {
    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        let mut head = [0; HEAD_BYTES];
        head[0] = self.kind;
        head[1] = self.flags;
        head[2..4].copy_from_slice(&(self.key_len as u16).to_le_bytes());
        head[4..8].copy_from_slice(&self.body.to_le_bytes());
        head[8..16].copy_from_slice(&self.namespace.0.to_le_bytes());
        head[16..24].copy_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&head);
    }

    #[inline]
    fn write_with_windows(
        &mut self,
        out: &mut Vec<u8>,
        resolution_ms: Option<i64>,
        spread_ms: Option<i64>,
    ) {
        for (flag, window) in [(RESOLUTION, resolution_ms), (SPREAD, spread_ms)] {
            if window.is_some() {
                self.flags |= flag;
            }
        }
        self.write(out);
        for window in [resolution_ms, spread_ms].into_iter().flatten() {
            out.extend_from_slice(&window.to_le_bytes());
        }
    }

    #[inline]
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let long = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let head = Self {
            kind: head[0],
            flags: head[1],
            key_len: u16::from_le_bytes([head[2], head[3]]) as usize,
            body: u32::from_le_bytes([head[4], head[5], head[6], head[7]]),
            namespace: NamespaceId(long(8)),
            time: long(16) as i64,
        };
        Some((head, rest))
    }
}

#[cfg(test)]
mod tests;
