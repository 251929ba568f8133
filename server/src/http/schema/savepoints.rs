//! The shapes of savepoints.

use super::Time;
use utoipa::ToSchema;

/// What to copy.
#[derive(ToSchema)]
pub struct SavepointRequest {
    /// By name; left out: all.
    pub namespaces: Option<Vec<String>>,
}

#[derive(ToSchema)]
pub struct Savepoint {
    /// Its folder in the snapshot store is `savepoints/{savepoint}`.
    pub savepoint: Option<String>,
    /// `running`, `done` or `failed`; `asked`: it has not begun yet.
    pub status: String,
    pub began_at: Option<Time>,
    pub ended_at: Option<Time>,
    /// Bytes of all its files.
    pub bytes: Option<u64>,
    pub namespaces: Option<Vec<SavepointNamespace>>,
    /// Why it came to nothing, if it did.
    pub failure: Option<String>,
}

#[derive(ToSchema)]
pub struct SavepointNamespace {
    pub namespace: String,
    pub keys: u64,
    pub timers: u64,
    /// Outputs that were retained.
    pub outputs: u64,
}

#[derive(ToSchema)]
pub struct Savepoints {
    pub savepoints: Vec<Savepoint>,
}
