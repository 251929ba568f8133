//! Controls written down and made again.

use super::{
    BroadcastProducers, Change, Close, Control, Controls, InFlight, Pause, Publish, is_zero,
};
use crate::namespace::NamespaceConfig;
use crate::output::{Cursor, NamespaceId};
use crate::time::Timestamp;
use crate::watermark::Sources;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// All that the controls of a lane know, but for who waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct ControlsState {
    pub(crate) incarnations: u64,
    pub(crate) namespaces: Vec<ControlState>,
    pub(crate) in_flight: Vec<StepState>,
}

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ControlState {
    pub(crate) name: Arc<str>,
    pub(crate) id: u64,
    pub(crate) config: Arc<NamespaceConfig>,
    pub(crate) version: u64,
    pub(crate) steps: u64,
    #[serde(default)]
    pub(crate) sources: Sources,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) manual_now: Option<Timestamp>,
    /// What it keeps while it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) paused: Option<Pause>,
    /// How its input has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) closed: Option<Close>,
    /// The step that has resumed it last; 0: none has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) resumed: u64,
    /// Whose broadcasts were taken.
    #[serde(default, skip_serializing_if = "BroadcastProducers::is_empty")]
    pub(crate) broadcasters: BroadcastProducers,
    /// The newest output of all when it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) born_cursor: Option<u64>,
}

/// A step that not every lane has settled yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepState {
    pub(crate) namespace: u64,
    pub(crate) number: u64,
    pub(crate) change: Change,
    /// What is published once every lane has applied it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) publish: Option<PublishState>,
}

/// A configuration that is published once it stands everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishState {
    pub(crate) name: Arc<str>,
    pub(crate) config: Arc<NamespaceConfig>,
    pub(crate) version: u64,
}

impl Controls {
    /// All that is needed to make them again.
    pub(crate) fn to_state(&self) -> ControlsState {
        let namespaces = self.by_name.iter().map(|(name, it)| ControlState {
            name: Arc::clone(name),
            id: it.id.0,
            config: Arc::clone(&it.config),
            version: it.version,
            steps: it.steps,
            sources: it.sources.clone(),
            manual_now: it.manual_now,
            paused: it.paused.clone(),
            closed: it.closed,
            resumed: it.resumed,
            broadcasters: it.broadcasters.clone(),
            born_cursor: it.born.map(|born| born.0),
        });
        let in_flight = self.in_flight.iter().map(|((namespace, number), it)| StepState {
            namespace: namespace.0,
            number: *number,
            change: it.change.clone(),
            publish: it.publish.as_ref().map(|Publish { name, config, version }| PublishState {
                name: Arc::clone(name),
                config: Arc::clone(config),
                version: *version,
            }),
        });
        ControlsState {
            incarnations: self.incarnations,
            namespaces: namespaces.collect(),
            in_flight: in_flight.collect(),
        }
    }

    /// The controls of a lane as they were. Nobody waits for an answer any more, and of the steps
    /// under way it is not known how far the lanes are: see [`Controls::recovered`].
    pub(crate) fn from_state(lane: u16, lanes: u16, state: ControlsState) -> Self {
        let mut it = Self::new(lane, lanes);
        it.incarnations = state.incarnations;
        for namespace in state.namespaces {
            let ControlState { name, config, version, steps, sources, .. } = namespace;
            let control = Control {
                id: NamespaceId(namespace.id),
                config,
                version,
                steps,
                sources,
                manual_now: namespace.manual_now,
                paused: namespace.paused,
                closed: namespace.closed,
                is_finished: false,
                resumed: namespace.resumed,
                broadcasters: namespace.broadcasters,
                born: namespace.born_cursor.map(Cursor),
                idle_at: None,
            };
            if control.paused.as_ref().is_some_and(|pause| pause.stop.is_some()) {
                it.stopped.insert(control.id);
            }
            it.by_name.insert(Arc::clone(&name), control);
            it.list_idle(&name);
        }
        for step in state.in_flight {
            let StepState { namespace, number, change, publish } = step;
            let publish = publish.map(|PublishState { name, config, version }| Publish {
                name,
                config,
                version,
            });
            let in_flight = InFlight { publish, ..InFlight::new(change) };
            it.in_flight.insert((NamespaceId(namespace), number), in_flight);
        }
        it
    }
}
#[cfg(test)]
mod tests;
