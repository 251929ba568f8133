//! The calls on savepoints, for the table.

use super::table::{TIMES, get};
use super::{Call, Place, Reads, Route, Scope, Verb};
use crate::http::query::{Param, ParamKind};

pub(super) const MAKE: Route = Route {
    verb: Verb::Post,
    scope: Scope::Admin,
    params: &[
        Param::one(
            "wait",
            ParamKind::Duration,
            "Answer 200 once it is stored, or 202 after so long: 0 s, at most 10 m.",
        ),
        TIMES,
    ],
    reads: Reads::Single("SavepointRequest"),
    schema: Some("Savepoint"),
    begins: true,
    ..get(
        Place::Root,
        "/v1/savepoints",
        Call::MakeSavepoint,
        "Copy namespaces, or all, as of one moment; Location says where it can be watched",
    )
};

pub(super) const LIST: Route = Route {
    scope: Scope::Admin,
    params: &[TIMES],
    schema: Some("Savepoints"),
    ..get(
        Place::Root,
        "/v1/savepoints",
        Call::ListSavepoints,
        "The savepoints in the snapshot store, newest first",
    )
};

pub(super) const GET: Route = Route {
    scope: Scope::Admin,
    params: &[TIMES],
    schema: Some("Savepoint"),
    ..get(Place::Root, "/v1/savepoints/{id}", Call::GetSavepoint, "One savepoint")
};

pub(super) const REMOVE: Route = Route {
    verb: Verb::Delete,
    scope: Scope::Admin,
    ..get(
        Place::Root,
        "/v1/savepoints/{id}",
        Call::RemoveSavepoint,
        "Remove a savepoint, unless it is being written (409)",
    )
};
