//! What a snapshot holds of a lane beside its partitions: the namespaces on it and how far their
//! time has come; and the controls that are at home there. Both are JSON: small beside the keys,
//! and readable by whoever has to find out what went wrong.
//!
//! Each distinct configuration stands once in a head, however many namespaces have it.

use super::fault::SnapshotFault;
use crate::held::Held;
use crate::namespace::{ControlsState, NamespaceConfig, Stop};
use crate::output::NamespaceId;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The head of a lane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LaneHead {
    /// The position of the last record that was applied; 0: none was.
    pub(crate) position: u64,
    pub(crate) namespaces: Vec<NamespaceHead>,
}

/// A namespace on a lane, without its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamespaceHead {
    pub(crate) id: NamespaceId,
    pub(crate) config: Arc<NamespaceConfig>,
    /// Control records up to this number were applied.
    pub(crate) applied_number: u64,
    /// What the manual clock reads, if there is one and it was set.
    pub(crate) manual_now: Option<Timestamp>,
    /// Time stands still until it is resumed.
    pub(crate) is_paused: bool,
    /// It takes no more operations.
    pub(crate) is_closed: bool,
    /// Why it has stopped, if it has.
    pub(crate) stopped: Option<Arc<Stop>>,
    /// The broadcast state, as the function has written it down.
    pub(crate) broadcast: Option<Arc<[u8]>>,
    /// By domain.
    pub(crate) domains: [DomainHead; 2],
}

/// How far time has come in one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DomainHead {
    /// The last tick or watermark.
    pub(crate) reached: Option<Timestamp>,
    /// Where the wheel stands: nothing depends on it but speed.
    pub(crate) wheel_at: Timestamp,
    /// What a restart holds back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held: Option<Held>,
}

impl DomainHead {
    /// That of keys which come from all of these lanes. A timer that had not fired on its lane must not
    /// be taken for due: time has come as far as on the lane where it had come least.
    pub(crate) fn merged<'a>(lanes: impl Iterator<Item = &'a Self> + Clone) -> Self {
        Self {
            // None is less than any time.
            reached: lanes.clone().map(|it| it.reached).min().flatten(),
            wheel_at: lanes.clone().map(|it| it.wheel_at).min().unwrap_or(Timestamp::MIN),
            held: Held::joined(lanes.filter_map(|it| it.held.as_ref())),
        }
    }
}

/// A head as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadForm {
    position: u64,
    configs: Vec<Arc<NamespaceConfig>>,
    namespaces: Vec<NamespaceForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamespaceForm {
    id: u64,
    /// Which of the configurations.
    config: usize,
    applied_number: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manual_now: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    paused: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    closed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped: Option<Arc<Stop>>,
    /// In hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    broadcast: Option<String>,
    event: DomainHead,
    processing: DomainHead,
}

impl LaneHead {
    /// Its bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut configs: Vec<Arc<NamespaceConfig>> = Vec::new();
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        let namespaces = self.namespaces.iter().map(|it| {
            let text = serde_json::to_string(&it.config).expect("a configuration is plain data");
            let config = *known.entry(text).or_insert_with(|| {
                configs.push(Arc::clone(&it.config));
                configs.len() - 1
            });
            NamespaceForm {
                id: it.id.0,
                config,
                applied_number: it.applied_number,
                manual_now: it.manual_now,
                paused: it.is_paused,
                closed: it.is_closed,
                stopped: it.stopped.clone(),
                broadcast: it.broadcast.as_deref().map(to_digits),
                event: it.domains[0].clone(),
                processing: it.domains[1].clone(),
            }
        });
        let namespaces = namespaces.collect();
        let form = HeadForm { position: self.position, configs, namespaces };
        serde_json::to_vec(&form).expect("a head is plain data")
    }

    /// Reads a head; `what` is how faults call it.
    pub(crate) fn decode(what: &str, bytes: &[u8]) -> Result<Self, SnapshotFault> {
        let form: HeadForm = from_json(what, bytes, "the JSON is not that of a lane's head")?;
        let namespaces = form.namespaces.into_iter().map(|it| {
            let id = NamespaceId(it.id);
            let config = form.configs.get(it.config).map(Arc::clone).ok_or_else(|| {
                SnapshotFault::damaged(what, 0, "a namespace has a configuration that is not there")
            })?;
            let broadcast = it.broadcast.map(|digits| {
                let bytes = from_digits(&digits);
                bytes.map(Arc::from).ok_or_else(|| {
                    SnapshotFault::damaged(what, 0, "a broadcast state is not what it should be")
                })
            });
            let broadcast = broadcast.transpose()?;
            Ok(NamespaceHead {
                id,
                config,
                applied_number: it.applied_number,
                manual_now: it.manual_now,
                is_paused: it.paused,
                is_closed: it.closed,
                stopped: it.stopped,
                broadcast,
                domains: [it.event, it.processing],
            })
        });
        let namespaces = namespaces.collect::<Result<_, SnapshotFault>>()?;
        Ok(Self { position: form.position, namespaces })
    }
}

/// The bytes of the controls that are at home in a lane.
pub(crate) fn encode_controls(state: &ControlsState) -> Vec<u8> {
    serde_json::to_vec(state).expect("a state is plain data")
}

/// Reads controls; `what` is how faults call them.
pub(crate) fn decode_controls(what: &str, bytes: &[u8]) -> Result<ControlsState, SnapshotFault> {
    from_json(what, bytes, "the JSON is not that of controls")
}

fn to_digits(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |four: u8| char::from(DIGITS[usize::from(four)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn from_digits(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?)).collect()
}

fn from_json<'a, T: Deserialize<'a>>(
    what: &str,
    bytes: &'a [u8],
    detail: &'static str,
) -> Result<T, SnapshotFault> {
    serde_json::from_slice(bytes)
        .map_err(|error| SnapshotFault::damaged(what, error.column() as u64, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::{ClockKind, OverduePolicy, StopAt};

    #[test]
    fn a_head_comes_back_and_holds_each_configuration_once() {
        let at = Timestamp::from_millis;
        let manual = NamespaceConfig { clock: ClockKind::Manual, ..NamespaceConfig::default() };
        let config = |n: u64| {
            let config =
                if n.is_multiple_of(2) { manual.clone() } else { NamespaceConfig::default() };
            Arc::new(config)
        };
        let still = DomainHead { reached: None, wheel_at: Timestamp::MIN, held: None };
        let held = Held::after(None, OverduePolicy::Shift, at(-3), at(4));
        let (reached, wheel_at) = (Some(Timestamp::MAX), at(i64::MIN + 1));
        let moving = DomainHead { reached, wheel_at, held };
        let namespaces = (0..100).map(|n| NamespaceHead {
            id: NamespaceId(u64::MAX - n),
            config: config(n),
            applied_number: n,
            manual_now: (n == 4).then_some(at(-7)),
            is_paused: n == 5,
            is_closed: n == 6,
            stopped: (n == 5).then(|| {
                let at = StopAt::Element { timestamp: at(3), input: 1 };
                Arc::new(Stop::new(Timestamp::MIN, vec![0, 255], at, "no"))
            }),
            broadcast: (n == 6).then(|| Arc::from(&[0, 0x9a, 255][..])),
            domains: if n.is_multiple_of(7) { [&moving, &still] } else { [&still, &moving] }
                .map(Clone::clone),
        });
        let head = LaneHead { position: u64::MAX, namespaces: namespaces.collect() };
        let bytes = head.encode();
        assert_eq!(LaneHead::decode("head", &bytes), Ok(head));
        let form: HeadForm = serde_json::from_slice(&bytes).expect("it was just read");
        assert_eq!(form.configs.len(), 2);
        assert_eq!(LaneHead::decode("e", &LaneHead::default().encode()), Ok(LaneHead::default()));
        for cut in 0..bytes.len() {
            assert!(LaneHead::decode("head", &bytes[..cut]).is_err());
        }
        let wrong = r#"{"position":1,"configs":[],"namespaces":[{"id":1,"config":0,
            "applied_number":1,"event":{"reached":null,"wheel_at":0},
            "processing":{"reached":null,"wheel_at":0}}]}"#;
        let fault = LaneHead::decode("head of lane 3", wrong.as_bytes()).expect_err("no config");
        assert!(fault.to_string().starts_with("head of lane 3 is damaged"), "{fault}");
    }
}
