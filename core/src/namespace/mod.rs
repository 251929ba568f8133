//! Namespaces: configuration, and the control state machine.

mod command;
mod config;
mod control;
mod stop;

pub use command::{
    Broadcast, BroadcastResult, ClockChange, Closing, Command, CommandReply, NamespaceStatus,
    ProcessingTimers, SourceChange, SourceResult, SourceStatus,
};
pub(crate) use config::is_nothing;
pub use config::{
    ClockKind, ErrorPolicy, LateElements, LateTimers, NamespaceConfig, NamespaceLimits,
    OPERATOR_TIMERS, OnError, OverduePolicy, Retention, WatermarkConfig, is_identifier,
};
pub use control::DEFAULT_NAMESPACE;
pub(crate) use control::{
    Asked, BroadcastStep, Change, ControlEffect, ControlRecord, ControlState, Controls,
    ControlsState, Step, StepDone, StopReport, Ticket,
};
pub use stop::{Stop, StopAt};
