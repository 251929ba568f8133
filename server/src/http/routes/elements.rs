//! The calls that take elements, for the table.

use super::table::{ACK, ACK_SYNCED, TIMES, get};
use super::{Call, Place, Reads, Route, Scope, Verb};
use crate::http::query::{Param, ParamKind};

pub(super) const PUSH: Route = Route {
    verb: Verb::Post,
    scope: Scope::Ingest,
    params: &[
        Param::one(
            "source",
            ParamKind::Text,
            "The source of watermarks that lines with `watermark` move, and timestamps where the \
             strategy is `bounded`; `default` unless said.",
        ),
        Param::one(
            "group",
            ParamKind::Word(&["key"]),
            "`key`: the rows of one key in a record batch of an Arrow stream are one element, for \
             functions that want columns; each row is one unless said.",
        ),
        ACK,
        TIMES,
    ],
    reads: Reads::Batch("ElementLine"),
    schema: Some("ElementsTaken"),
    ..get(
        Place::AnyNamespace,
        "/elements",
        Call::Elements,
        "Elements for the namespace's function: NDJSON lines or an Arrow stream; a summary answers",
    )
};

pub(super) const BROADCAST: Route = Route {
    verb: Verb::Post,
    scope: Scope::Ingest,
    params: &[
        Param::one(
            "settle",
            ParamKind::Flag,
            "Answer once all keys that it wants visited have been, and what that emits can be read.",
        ),
        ACK_SYNCED,
    ],
    reads: Reads::Single("BroadcastElement"),
    schema: Some("BroadcastTaken"),
    ..get(
        Place::AnyNamespace,
        "/broadcast",
        Call::Broadcast,
        "One element for all keys of the namespace's function: what comes behind it finds its state",
    )
};
