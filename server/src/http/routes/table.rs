//! The table itself: every call with its path, its scope, its parameters and its shapes.

use super::{Call, Place, Reads, Route, Scope, Verb, elements, savepoints};
use crate::http::manners::Media;
use crate::http::query::{Param, ParamKind};

const JSON: &[Media] = &[Media::Json];
const PAGE: &[Media] = &[Media::Text, Media::Html];
pub(super) const ACK: Param = Param::one(
    "ack",
    ParamKind::Word(&["accepted", "written", "synced"]),
    "How durable the change shall be before the answer, instead of the level that the service is \
     configured with. Stormwheel-Ack in the answer says what was given; with in_memory that is \
     `accepted`, whatever was asked for.",
);
pub(super) const ACK_SYNCED: Param = Param::one(
    "ack",
    ParamKind::Word(&["accepted", "written", "synced"]),
    "How durable the change shall be before the answer. This one is always `synced`, and \
     Stormwheel-Ack says so; with in_memory it is `accepted`.",
);
pub(super) const TIMES: Param =
    Param::one("times", ParamKind::Word(&["millis", "rfc3339"]), "How the answer spells times.");
const DOMAIN: Param = Param::one(
    "domain",
    ParamKind::Word(&["processing", "event"]),
    "The clock that the timer follows: `processing` unless said otherwise.",
);

pub(super) const fn get(
    place: Place,
    path: &'static str,
    call: Call,
    summary: &'static str,
) -> Route {
    Route {
        verb: Verb::Get,
        place,
        path,
        scope: Scope::Read,
        call,
        summary,
        params: &[],
        reads: Reads::Nothing,
        gives: JSON,
        schema: None,
        creates: false,
        begins: false,
    }
}

/// All of them.
pub static ROUTES: &[Route] = &[
    Route {
        verb: Verb::Put,
        scope: Scope::Ingest,
        params: &[DOMAIN, ACK, TIMES],
        reads: Reads::Single("Registration"),
        schema: Some("Applied"),
        creates: true,
        ..get(
            Place::AnyNamespace,
            "/keys/{key}/timers/{name}",
            Call::PutTimer,
            "Create a named timer, or replace it whole",
        )
    },
    Route {
        verb: Verb::Post,
        scope: Scope::Ingest,
        params: &[ACK, TIMES],
        reads: Reads::Single("Registration"),
        schema: Some("Applied"),
        creates: true,
        ..get(
            Place::AnyNamespace,
            "/keys/{key}/timers",
            Call::PostTimer,
            "Create an unnamed timer; its identity is (key, domain, fire_at)",
        )
    },
    Route {
        params: &[DOMAIN, TIMES],
        schema: Some("Timer"),
        ..get(
            Place::AnyNamespace,
            "/keys/{key}/timers/{name}",
            Call::GetTimer,
            "Whether a named timer is registered, and when it is due",
        )
    },
    Route {
        params: &[DOMAIN, TIMES],
        schema: Some("KeyTimers"),
        ..get(
            Place::AnyNamespace,
            "/keys/{key}/timers",
            Call::GetKeyTimers,
            "All timers of a key, by (domain, fire_at, name); none for an unknown key",
        )
    },
    Route {
        verb: Verb::Delete,
        scope: Scope::Ingest,
        params: &[DOMAIN, ACK, TIMES],
        schema: Some("Applied"),
        ..get(
            Place::AnyNamespace,
            "/keys/{key}/timers/{name}",
            Call::DeleteTimer,
            "Cancel a named timer; `\"cancelled\":1` promises that it never fires",
        )
    },
    Route {
        verb: Verb::Delete,
        scope: Scope::Ingest,
        params: &[
            Param::one(
                "at",
                ParamKind::Time,
                "Only the unnamed timer that a registration with this `at` made: rounded and \
                 spread alike.",
            ),
            Param::one(
                "fire_at",
                ParamKind::Time,
                "Only the unnamed timer that is due exactly then.",
            ),
            DOMAIN,
            Param::one(
                "resolution",
                ParamKind::Duration,
                "With `at`: the resolution it was registered with, if not the namespace's.",
            ),
            Param::one(
                "spread",
                ParamKind::Duration,
                "With `at`: the spread it was registered with, if not the namespace's.",
            ),
            ACK,
            TIMES,
        ],
        schema: Some("Applied"),
        ..get(
            Place::AnyNamespace,
            "/keys/{key}/timers",
            Call::DeleteKeyTimers,
            "Cancel all timers of a key, in both domains; or, with `at` or `fire_at`, one unnamed timer",
        )
    },
    Route {
        verb: Verb::Post,
        scope: Scope::Ingest,
        params: &[ACK, TIMES],
        reads: Reads::Single("Touch"),
        schema: Some("Applied"),
        creates: true,
        ..get(
            Place::AnyNamespace,
            "/keys/{key}/touch",
            Call::Touch,
            "Heartbeat: move a named timer of the key to now + `after`, made if absent",
        )
    },
    Route {
        verb: Verb::Post,
        scope: Scope::Ingest,
        params: &[ACK, TIMES],
        reads: Reads::Batch("BatchOperation"),
        // Rows of Arrow are answered by one JSON summary, lines by lines.
        gives: &[Media::Ndjson, Media::Json],
        schema: Some("BatchLine"),
        ..get(
            Place::AnyNamespace,
            "/timers/batch",
            Call::Batch,
            "Many operations: NDJSON lines (one result a line, in order) or an Arrow stream (a summary)",
        )
    },
    elements::PUSH,
    elements::BROADCAST,
    Route {
        params: &[
            Param::one("due_after", ParamKind::Time, "Only timers due at or after this."),
            Param::one("due_before", ParamKind::Time, "Only timers due before this."),
            Param::one(
                "domain",
                ParamKind::Word(&["processing", "event"]),
                "Only timers of this domain; both unless said.",
            ),
            Param::one("key_prefix", ParamKind::Text, "Only keys that start so."),
            Param::one("limit", ParamKind::Integer, "Timers in a page: 100, at most 1,000."),
            Param::one(
                "page_token",
                ParamKind::Text,
                "Where the last page ended: its next_page_token.",
            ),
            TIMES,
        ],
        schema: Some("TimerPage"),
        ..get(
            Place::AnyNamespace,
            "/timers",
            Call::ListTimers,
            "Page through pending timers by (fire_at, key, name); not a snapshot",
        )
    },
    Route {
        params: &[
            Param::one("from", ParamKind::Time, "Start; now unless said."),
            Param::one("to", ParamKind::Time, "End; an hour after the start unless said."),
            Param::one(
                "step",
                ParamKind::Duration,
                "Width of a step; 1 m unless said, widened to whole minutes.",
            ),
            DOMAIN,
            TIMES,
        ],
        schema: Some("Forecast"),
        ..get(
            Place::AnyNamespace,
            "/forecast",
            Call::Forecast,
            "How many timers fall due in each step: the storm, seen before it comes",
        )
    },
    Route {
        params: &[
            Param::one(
                "cursor",
                ParamKind::Text,
                "Read after this record: the number of a record, `earliest` (the default), \
                 `latest`, or an RFC 3339 time.",
            ),
            Param::one(
                "wait",
                ParamKind::Duration,
                "Answer what is there, or after so long nothing: 0 s, at most 60 s.",
            ),
            Param::one(
                "limit",
                ParamKind::Integer,
                "Answer up to so many records and end: 1,000, at most 10,000.",
            ),
            Param::one(
                "on_gap",
                ParamKind::Word(&["fail", "skip"]),
                "What to do if records after the cursor are gone: 410, or go on from the earliest \
                 after a line that says so.",
            ),
            Param::many(
                "tag",
                ParamKind::TextOrEmpty,
                "Only values of these side outputs; empty is the main output, fires among it.",
            ),
            Param::many("key", ParamKind::Text, "Only these keys."),
            Param::many("key_prefix", ParamKind::Text, "Only keys that start so."),
            Param::many("name", ParamKind::Text, "Only timers of these names."),
            Param::many(
                "domain",
                ParamKind::Word(&["processing", "event"]),
                "Only fires of these domains.",
            ),
            TIMES,
        ],
        gives: &[Media::Ndjson, Media::EventStream],
        schema: Some("Output"),
        ..get(
            Place::AnyNamespace,
            "/outputs",
            Call::Outputs,
            "Stream of what fired; endless unless `wait` or `limit` is given",
        )
    },
    Route {
        verb: Verb::Put,
        scope: Scope::Admin,
        params: &[ACK_SYNCED],
        reads: Reads::Single("NamespaceConfig"),
        schema: Some("NamespaceChange"),
        creates: true,
        ..get(
            Place::Namespace,
            "",
            Call::PutNamespace,
            "Make a namespace, or replace its configuration; what is left out is the default",
        )
    },
    Route {
        verb: Verb::Patch,
        scope: Scope::Admin,
        params: &[ACK_SYNCED],
        reads: Reads::Single("NamespaceConfig"),
        schema: Some("NamespaceChange"),
        ..get(
            Place::Namespace,
            "",
            Call::PatchNamespace,
            "Merge into a namespace's configuration (RFC 7396)",
        )
    },
    Route {
        params: &[
            Param::one("limit", ParamKind::Integer, "Namespaces in a page: 100, at most 1,000."),
            Param::one(
                "page_token",
                ParamKind::Text,
                "Where the last page ended: its next_page_token.",
            ),
        ],
        schema: Some("NamespacePage"),
        ..get(Place::Root, "/v1/namespaces", Call::ListNamespaces, "The namespaces, by name")
    },
    Route {
        params: &[TIMES],
        schema: Some("Namespace"),
        ..get(
            Place::Namespace,
            "",
            Call::GetNamespace,
            "A namespace's configuration and live figures",
        )
    },
    Route {
        verb: Verb::Delete,
        scope: Scope::Admin,
        params: &[Param::one("force", ParamKind::Flag, "Also if it holds timers."), ACK_SYNCED],
        schema: Some("NamespaceDeleted"),
        ..get(
            Place::Namespace,
            "",
            Call::DeleteNamespace,
            "Remove a namespace with all it holds; `default` is emptied",
        )
    },
    Route {
        verb: Verb::Put,
        scope: Scope::Ingest,
        params: &[
            Param::one(
                "settle",
                ParamKind::Flag,
                "Answer once everything it made due can be read.",
            ),
            ACK_SYNCED,
            TIMES,
        ],
        reads: Reads::Single("SourceChange"),
        schema: Some("SourceChanged"),
        ..get(
            Place::AnyNamespace,
            "/watermarks/{source}",
            Call::PutWatermark,
            "Move a source's watermark, or set it idle",
        )
    },
    Route {
        verb: Verb::Delete,
        scope: Scope::Ingest,
        params: &[
            Param::one(
                "settle",
                ParamKind::Flag,
                "Answer once everything it made due can be read.",
            ),
            ACK_SYNCED,
            TIMES,
        ],
        schema: Some("SourceChanged"),
        ..get(
            Place::AnyNamespace,
            "/watermarks/{source}",
            Call::DeleteWatermark,
            "Forget a source of watermarks",
        )
    },
    Route {
        params: &[TIMES],
        schema: Some("Watermark"),
        ..get(
            Place::AnyNamespace,
            "/watermark",
            Call::GetWatermark,
            "The combined watermark and each source",
        )
    },
    Route {
        verb: Verb::Put,
        scope: Scope::Ingest,
        params: &[ACK_SYNCED, TIMES],
        reads: Reads::Single("ClockChange"),
        schema: Some("ClockChanged"),
        ..get(
            Place::Namespace,
            "/clock",
            Call::PutClock,
            "Move a manual clock; answers once everything it made due can be read",
        )
    },
    Route {
        verb: Verb::Post,
        scope: Scope::Admin,
        params: &[ACK_SYNCED],
        schema: Some("NamespacePaused"),
        ..get(
            Place::Namespace,
            "/pause",
            Call::PauseNamespace,
            "Let no time pass in a namespace: nothing fires until it is resumed",
        )
    },
    Route {
        verb: Verb::Post,
        scope: Scope::Admin,
        params: &[ACK_SYNCED],
        schema: Some("NamespacePaused"),
        ..get(
            Place::Namespace,
            "/resume",
            Call::ResumeNamespace,
            "Let time go on, also after a stop by errors; answers once everything it made due can be read",
        )
    },
    Route {
        verb: Verb::Post,
        scope: Scope::Admin,
        params: &[ACK_SYNCED],
        reads: Reads::Single("NamespaceClose"),
        schema: Some("NamespaceClosed"),
        ..get(
            Place::Namespace,
            "/close",
            Call::CloseNamespace,
            "End the input of a namespace: the final watermark, and an end of its processing timers",
        )
    },
    Route {
        verb: Verb::Post,
        scope: Scope::Admin,
        schema: Some("ClockStatus"),
        ..get(
            Place::Root,
            "/v1/clock/accept",
            Call::AcceptClock,
            "Accept the leap of the machine's clock that is held back",
        )
    },
    Route {
        verb: Verb::Post,
        scope: Scope::Admin,
        params: &[
            Param::one(
                "wait",
                ParamKind::Duration,
                "Answer 200 once it has ended, or 202 after so long: 0 s, at most 10 m.",
            ),
            TIMES,
        ],
        schema: Some("Checkpoint"),
        begins: true,
        ..get(
            Place::Root,
            "/v1/checkpoints",
            Call::BeginCheckpoint,
            "Begin a checkpoint now; Location says where it can be watched",
        )
    },
    Route {
        scope: Scope::Admin,
        params: &[TIMES],
        schema: Some("Checkpoints"),
        ..get(
            Place::Root,
            "/v1/checkpoints",
            Call::ListCheckpoints,
            "The last checkpoints, newest first",
        )
    },
    Route {
        scope: Scope::Admin,
        params: &[TIMES],
        schema: Some("Checkpoint"),
        ..get(
            Place::Root,
            "/v1/checkpoints/{n}",
            Call::GetCheckpoint,
            "One of the last checkpoints",
        )
    },
    savepoints::MAKE,
    savepoints::LIST,
    savepoints::GET,
    savepoints::REMOVE,
    Route {
        scope: Scope::Metrics,
        params: &[Param::one("verbose", ParamKind::Flag, "With each check.")],
        schema: Some("Health"),
        ..get(Place::Root, "/livez", Call::Livez, "Whether the process works at all")
    },
    Route {
        scope: Scope::Metrics,
        params: &[Param::one("verbose", ParamKind::Flag, "With each check.")],
        schema: Some("Health"),
        ..get(
            Place::Root,
            "/readyz",
            Call::Readyz,
            "Whether it should be sent requests; 503 if not",
        )
    },
    Route {
        scope: Scope::Metrics,
        gives: &[Media::Text],
        ..get(Place::Root, "/metrics", Call::Metrics, "Figures for Prometheus")
    },
    get(Place::Root, "/openapi.json", Call::OpenApi, "This document"),
    Route {
        gives: PAGE,
        ..get(Place::Root, "/problems", Call::Problems, "All problems and what to do about them")
    },
    Route {
        gives: PAGE,
        ..get(Place::Root, "/problems/{slug}", Call::Problem, "What a problem means and what to do")
    },
    Route { gives: PAGE, ..get(Place::Root, "/", Call::Home, "Where to start") },
];
