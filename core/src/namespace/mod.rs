//! Namespaces: configuration, and the control state machine.

mod command;
mod config;
mod control;

pub use command::{
    Broadcast, BroadcastResult, ClockChange, Command, CommandReply, NamespaceStatus, SourceChange,
    SourceResult, SourceStatus,
};
pub use config::{
    ClockKind, ErrorPolicy, LateElements, LateTimers, NamespaceConfig, NamespaceLimits,
    OPERATOR_TIMERS, OnError, OverduePolicy, Retention, WatermarkConfig, is_identifier,
};
pub use control::DEFAULT_NAMESPACE;
pub(crate) use control::{
    Asked, BroadcastStep, Change, ControlEffect, ControlRecord, ControlState, Controls,
    ControlsState, Step, StepDone, Ticket,
};
