//! The call that takes elements, for the table.

use super::table::{ACK, TIMES, get};
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
