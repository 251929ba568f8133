//! The closed list of problem kinds, with the text of the page that each has at its address.
//!
//! The help is written for somebody who was woken by it: what it means, then what to do. A slug is
//! part of the interface and never changes its meaning.

use super::Kind;
use stormwheel::error::{Rejection, RejectionClass};

macro_rules! kinds {
    ($($name:ident = $status:literal $slug:literal, $title:literal, $help:literal;)+) => {
        $(
            #[doc = $title]
            pub const $name: Kind = Kind { slug: $slug, status: $status, title: $title, help: $help };
        )+

        /// All of them, by status.
        pub const ALL: &[&Kind] = &[$(&$name),+];
    };
}

/// The kind with this slug.
pub fn by_slug(slug: &str) -> Option<&'static Kind> {
    ALL.iter().copied().find(|kind| kind.slug == slug)
}

/// The kind of what the core refuses.
pub fn of_rejection(rejection: &Rejection) -> &'static Kind {
    // The core may grow rejections before this list does: those keep at least their status.
    by_slug(rejection.slug()).unwrap_or(match rejection.class() {
        RejectionClass::BadRequest => &INVALID_FIELD,
        RejectionClass::NotFound => &NOT_FOUND,
        RejectionClass::Conflict => &CONFLICT,
        RejectionClass::TooLarge => &BODY_TOO_LARGE,
        RejectionClass::Unprocessable => &TIME_OVERFLOW,
        RejectionClass::Overloaded => &QUEUE_FULL,
        RejectionClass::DiskFull => &DISK_FULL,
        RejectionClass::Unavailable => &STOPPING,
    })
}

kinds! {
    INVALID_JSON = 400 "invalid-json", "Not JSON",
        "The body, or this line of it, is not the JSON object that was expected; `detail` says where it breaks off.\n\n\
         In a batch each line holds one object. If curl sent it, use --data-binary: -d and --data take the newlines out. JSON may be nested 32 deep.";
    INVALID_UTF8 = 400 "invalid-utf8", "Not UTF-8",
        "A text has bytes that are not UTF-8.\n\n\
         Send JSON and paths as UTF-8. A key that is not text is written as `~` and unpadded base64url; a payload that is not text goes into payload_base64.";
    INVALID_ARROW = 400 "invalid-arrow", "Not a usable Arrow stream",
        "The body is not an Arrow IPC stream, or a column has another type than it must have; `detail` and `field` say which.\n\n\
         Write the streaming format (not the file format, not Feather) and do not compress its buffers; gzip or zstd the body instead.";
    UNKNOWN_FIELD = 400 "unknown-field", "Unknown field",
        "A field is not known, or has no meaning for this operation. Unknown fields are refused and never ignored, because a misspelt one would change what happens.\n\n\
         `field` names it, `detail` lists those that are known.";
    MISSING_FIELD = 400 "missing-field", "A field is missing",
        "Something that must be said was left out; `field` names it.\n\n\
         A registration says exactly one of `at` and `after`; a delete says `name`, `at` or `fire_at`; each line of a batch says `op` and `key`; an element says `key`, `value` and, where there is event time, `timestamp`.";
    INVALID_FIELD = 400 "invalid-field", "A field has a wrong value",
        "A field is of the wrong type, out of its bounds, or at odds with another one; `field` names it and `detail` says what is allowed.";
    INVALID_QUERY = 400 "invalid-query", "A query parameter is wrong",
        "A query parameter is unknown, empty, given twice, or not what it should be. None is ignored: a mistyped one could delete or return far more than was meant.\n\n\
         `field` names the parameter, `detail` lists those that are known.";
    INVALID_TIME = 400 "invalid-time", "Not a time",
        "A time is a whole number of milliseconds since 1970-01-01T00:00:00Z without fraction or exponent, in the range of 64 bits, or RFC 3339 with an offset such as 2026-01-01T00:00:00Z or 2026-01-01T01:00:00.250+01:00.\n\n\
         Epoch seconds are accepted as what they are as milliseconds: a day in January 1970. Such a timer is due at once, and its answer says `overdue`.";
    INVALID_DURATION = 400 "invalid-duration", "Not a duration",
        "A duration is text such as 90s, 1h30m, 500ms or 2w (units w, d, h, m, s, ms, the larger first), or ISO 8601 without years and months such as PT90S or P1DT2H.\n\n\
         A plain number is refused, because nobody can tell seconds from milliseconds. Durations that count forward must not be negative.";
    INVALID_KEY = 400 "invalid-key", "Not a key",
        "A key has 1 to 1024 bytes. In paths, JSON and outputs it is spelt as text, or as `~` and unpadded base64url, which is needed for bytes that are not UTF-8, for a leading `~`, and for `.` and `..`.\n\n\
         In a path, `/` inside of a key is %2F. In Arrow, Binary columns carry the raw bytes.";
    INVALID_NAME = 400 "invalid-name", "Not a name",
        "The name of a timer has 1 to 255 bytes of UTF-8. Namespaces, sources, subscriptions and producers are named [A-Za-z0-9][A-Za-z0-9._-]{0,127}.\n\n\
         Leave the name of a timer out for an unnamed one, whose identity is its key, domain and time.";
    INVALID_OPTION = 400 "invalid-option", "An option of the namespace is wrong",
        "A field of the namespace's configuration has a value that it cannot have, or that this version does not have yet; `field` names it by its path, `detail` says what is allowed.\n\n\
         Nothing was changed.";
    UNSUPPORTED_HEADER = 400 "unsupported-header", "A header that would not be obeyed",
        "The request carries a header that asks for something which this address does not do. It is refused rather than ignored, so that nobody relies on it.\n\n\
         Retrying a named registration, one with `at`, or a delete is harmless as it is, so Idempotency-Key is not needed. `If-None-Match: *` on a registration means only:absent. For unnamed timers with `after`, send Stormwheel-Producer and a rising Stormwheel-Sequence.";
    FOREIGN_ORIGIN = 403 "foreign-origin", "A page of another site sent this",
        "The request has an Origin header that is not this service: a web page somewhere else made a browser send it.\n\n\
         Call the service from a program, or allow the origin in the configuration.";
    FOREIGN_HOST = 403 "foreign-host", "The Host header names another machine",
        "The service listens on loopback only, and the Host header names neither localhost nor a loopback address. This stops web pages that point a name of their own at this machine.\n\n\
         Use 127.0.0.1 or localhost in the address.";
    NOT_FOUND = 404 "not-found", "No such address",
        "There is nothing at this path. Check its spelling: /openapi.json lists all of them.\n\n\
         A key or name in a path is percent-encoded as one segment: `/` is %2F.";
    NAMESPACE_NOT_FOUND = 404 "namespace-not-found", "No such namespace",
        "There is no namespace of this name. Namespaces are made by PUT /v1/namespaces/{name}; only `default` is always there.\n\n\
         GET /v1/namespaces lists them. It may also have been deleted meanwhile.";
    TIMER_NOT_FOUND = 404 "timer-not-found", "No such timer",
        "The key has no pending timer of this name in this domain: it was never registered, was cancelled, or has fired.\n\n\
         Names are per key and domain: for an event-time timer add ?domain=event.";
    SOURCE_NOT_FOUND = 404 "source-not-found", "No such source",
        "The namespace has no source of watermarks of this name.\n\n\
         GET /v1/namespaces/{ns}/watermark lists its sources. A source that is not listed in the configuration appears with its first report.";
    CHECKPOINT_NOT_FOUND = 404 "checkpoint-not-found", "No such checkpoint",
        "There is no checkpoint of this number, or it is older than those that are remembered: the last hundred of this process, and the one that it started from.\n\n\
         GET /v1/checkpoints lists them.";
    SAVEPOINT_NOT_FOUND = 404 "savepoint-not-found", "No such savepoint",
        "There is no savepoint of this name in the snapshot store of this service.\n\n\
         GET /v1/savepoints lists them. Those that were made by themselves go once there are more than savepoint.keep.";
    METHOD_NOT_ALLOWED = 405 "method-not-allowed", "This address does not take that method",
        "The path exists, but not with this method. The Allow header lists the methods that it takes, /openapi.json says what they do.";
    NOT_ACCEPTABLE = 406 "not-acceptable", "None of the accepted media types is available",
        "The Accept header asks for media types that this address cannot answer in.\n\n\
         Leave it out, or see `detail` for what there is. Outputs come as application/x-ndjson or text/event-stream.";
    REQUEST_TIMEOUT = 408 "request-timeout", "The request did not arrive in time",
        "The head or the body of the request came too slowly, and the service stopped waiting. Nothing was changed by it.\n\n\
         Try again; if it recurs, send smaller batches or look at the network.";
    CONFLICT = 409 "conflict", "At odds with what is there",
        "The request contradicts the present state; `detail` says how. Read the state again, decide anew, and repeat if it still makes sense.";
    NAMESPACE_NOT_EMPTY = 409 "namespace-not-empty", "The namespace still holds timers",
        "The namespace was not deleted because timers are pending in it; `actual` says how many.\n\n\
         Add ?force=true to delete it with all that it holds. That cannot be undone.";
    OPTION_FIXED = 409 "option-fixed", "This option can no longer be changed",
        "The operator and the clock of a namespace are fixed once it holds keys, because what is there was made under them.\n\n\
         Make another namespace, or delete this one first.";
    VERSION_CONFLICT = 409 "version-conflict", "Somebody else changed it meanwhile",
        "The configuration was changed between your reading and your writing of it.\n\n\
         Read it again, apply the change to what stands now, and send that.";
    NAMESPACE_STOPPED = 409 "namespace-stopped", "The namespace has stopped",
        "Its function failed for good, and `on_error` says `stop`: nothing is taken in and nothing fires until it is resumed. What it was refused for was not taken; a timer at which it failed is due still.\n\n\
         GET /v1/namespaces/{ns} says under status.stopped where it failed and what it said. Mend that, then POST /v1/namespaces/{ns}/resume, and send the elements again that were refused.";
    CLOCK_NOT_MANUAL = 409 "clock-not-manual", "The clock of this namespace cannot be set",
        "Only a namespace made with \"clock\":\"manual\" lives by a clock that is told the time; this one follows the clock of the machine.\n\n\
         Make a namespace with a manual clock for tests and replays.";
    ELEMENTS_UNWANTED = 409 "elements-unwanted", "The namespace takes no elements",
        "The namespace runs the operator `timers`, which turns timers into fires and has nothing to do with elements.\n\n\
         Register timers in it, or send elements to a namespace whose `operator` is a function.";
    BROADCAST_UNWANTED = 409 "broadcast-unwanted", "The namespace takes no broadcasts",
        "A broadcast is for a function that was written for broadcasts; the namespace's `operator` is not one of these.\n\n\
         Send its elements to single keys, or broadcast to a namespace whose function takes broadcasts (KeyedBroadcastProcessFunction).";
    TIMERS_OWNED = 409 "timers-owned", "The timers of this namespace belong to its function",
        "The namespace runs a function, which registers and deletes its timers itself. They can be read, but not changed from outside.\n\n\
         Send it elements. For timers of your own, make a namespace whose operator is `timers`.";
    NAMESPACE_CLOSED = 409 "namespace-closed", "The namespace is closed",
        "The input of the namespace has ended: it takes no more timers, touches, elements or watermarks. What it holds still fires as its `processing_timers` says, and its outputs can be read. Nothing was changed.\n\n\
         GET /v1/namespaces/{ns} says how far it is. A closed namespace is not opened again: send to another one, or delete it and make it anew.";
    NAMESPACE_PAUSED = 409 "namespace-paused", "The namespace is paused",
        "Closing a namespace lets its timers fire, and in this one no time passes. Nothing was changed.\n\n\
         POST /v1/namespaces/{ns}/resume first, then close it.";
    NOT_DURABLE = 409 "not-durable", "Nothing is kept on disk",
        "The service was started with in_memory, so there is nothing that could be written down, copied or started from.\n\n\
         Start it without --in-memory; data_dir says where everything is kept.";
    SAVEPOINT_UNDER_WAY = 409 "savepoint-under-way", "The savepoint is being written",
        "A savepoint cannot be removed while it is being written. Nothing was changed.\n\n\
         GET /v1/savepoints/{id} says when its status is no longer `running`; ask again then.";
    CURSOR_AHEAD = 409 "cursor-ahead", "The cursor is of another log",
        "The cursor lies beyond the newest output there is, or before the first that this namespace can have: it was not given out by this log, or by an earlier namespace of the same name. The service started with other data, or the namespace was deleted and made again.\n\n\
         Start again without a cursor (the earliest retained output) or with cursor=latest. What was fired in between may have been delivered to you or not.";
    CURSOR_GONE = 410 "cursor-gone", "Outputs after this cursor are gone",
        "The reader fell behind what is retained: outputs between its cursor and `earliest` were dropped by age or size and cannot be read any more.\n\n\
         Go on with cursor set to `earliest`, or add on_gap=skip to do that by itself. To keep more, raise the namespace's retention; to lose nothing, read faster.";
    PRECONDITION_FAILED = 412 "precondition-failed", "The condition was not met",
        "`If-None-Match: *` asked for the timer not to be there, and it is. It stays as it was.\n\n\
         To replace it, leave the header out. `only` in the body does the same with a 200 and the standing fire_at.";
    BODY_TOO_LARGE = 413 "body-too-large", "The body is too large",
        "The body has more bytes than `limit`, counted after decompression. Nothing of it was carried out.\n\n\
         Send smaller batches: some thousand operations each are as fast as it gets.";
    PAYLOAD_TOO_LARGE = 413 "payload-too-large", "The payload is too large",
        "The payload has more bytes than the namespace allows.\n\n\
         Raise limits.payload_bytes of the namespace (at most 1 MiB), or keep the data elsewhere and send a reference.";
    LINE_TOO_LONG = 413 "line-too-long", "A line of the batch is too long",
        "One line of the batch is longer than `limit`. It was skipped; the other lines stand.\n\n\
         If it holds several objects, the newlines got lost: with curl use --data-binary.";
    TOO_MANY_OPERATIONS = 413 "too-many-operations", "More operations than one batch may hold",
        "The batch holds more operations than `limit`. In NDJSON those before this line were carried out and those from here on were not; of an Arrow stream nothing was.\n\n\
         Send smaller batches: some thousand operations each are as fast as it gets.";
    UNSUPPORTED_MEDIA_TYPE = 415 "unsupported-media-type", "This content type is not taken here",
        "The Content-Type or Content-Encoding of the body is not one that this address reads.\n\n\
         Single requests take application/json; batches take application/x-ndjson or application/vnd.apache.arrow.stream; bodies may be gzip or zstd.";
    FUNCTION_FAILED = 422 "function-failed", "The function failed at this element",
        "The namespace's function returned an error or panicked at the element, also when it was called again, and `on_error` says `skip`: to pass over what fails. Nothing that it asked for there took place; its neighbours stand.\n\n\
         The side output `errors` (GET …/outputs?tag=errors) has the element and the message. Sending the element again would come to the same.";
    INPUT_NOT_FOUND = 422 "input-not-found", "The operator has no such input",
        "The element names an input by a number, from 0 on, that the namespace's operator does not have.\n\n\
         Leave `input` out for an operator with one input.";
    WATERMARK_UNSET = 422 "watermark-unset", "There is no watermark yet",
        "`after` in event time counts from the watermark, and this namespace has none yet: no source has reported, or a listed one is still missing.\n\n\
         Use `at`, or report a watermark first: PUT /v1/namespaces/{ns}/watermarks/{source}.";
    CLOCK_UNSET = 422 "clock-unset", "The manual clock was not set yet",
        "`after` counts from the clock of the namespace, which is a manual one and was never set.\n\n\
         Use `at`, or set the clock first: PUT /v1/namespaces/{ns}/clock with {\"now\": …}.";
    TIME_OVERFLOW = 422 "time-overflow", "The time leaves the range",
        "Times are 64-bit milliseconds, some 292 million years either way, and what was asked for lies beyond that.\n\n\
         Check the unit: nanoseconds where milliseconds belong are the usual reason.";
    QUOTA_EXCEEDED = 429 "quota-exceeded", "A quota is used up",
        "The namespace, key or service holds as much as it may: `limit` says how many, `detail` of what.\n\n\
         Cancel timers that are no longer needed, wait until some have fired, or raise the limits of the namespace.";
    QUEUE_FULL = 429 "queue-full", "A queue is full",
        "Requests come faster than the shard that owns the key works them off, and its queue has reached its bound. Nothing was done for this operation.\n\n\
         Wait for Retry-After and send it again, with backoff and jitter. If it lasts, look at stormwheel_shard_busy_seconds_total: more shards, more machines, or less traffic.";
    FUNCTION_RETRIES = 429 "function-retries", "The function is about to be called again",
        "The function has failed at this key, and is called again before anything more of its key group is taken in; so much waits for that already that this has to be refused. Nothing was done for it.\n\n\
         Wait for Retry-After and send it again. GET …/outputs?tag=errors and stormwheel_function_retries_total tell more.";
    HEADERS_TOO_LARGE = 431 "headers-too-large", "The head of the request is too large",
        "The request line and headers together are larger than the service takes.\n\n\
         Drop headers that are not needed, cookies above all. A key of 1024 bytes fits, also when percent-encoded.";
    INTERNAL = 500 "internal", "The service made a mistake",
        "Something failed that should not have, and it is not your request's fault. The log of the service has the details under the request id of the answer.\n\n\
         Whether the operation took effect is not known: repeat it if that is harmless. Please report it.";
    OUTPUTS_DAMAGED = 500 "outputs-damaged", "Outputs cannot be read",
        "What stands behind the cursor in the output log is damaged on disk, or the disk did not give it. Timers are not concerned, and nothing was skipped.\n\n\
         The service's log names the file and the place. Look at the disk. If it stays so, go on with `cursor=latest` or a cursor behind the damage; what lies between is lost to this reader.";
    STARTING = 503 "starting", "The service is starting",
        "The service is up but still recovering its state and takes no requests yet. /readyz shows the progress.\n\n\
         Wait for Retry-After and try again.";
    STOPPING = 503 "stopping", "The service is stopping",
        "The service was told to stop and takes nothing new in; what it has taken is worked off.\n\n\
         Wait for Retry-After and try again: it, or its successor, will be back.";
    POISONED = 503 "poisoned", "The log cannot be written any more",
        "Writing or syncing the log failed, so nobody can tell what of the last writes is on the disk. Nothing is acknowledged any more, and the process ends with exit code 5 within a second.\n\n\
         What was acknowledged is safe. Look at the log of the service and at the disk; once that is sound, start the service again: it finds out what is there.";
    SAVEPOINT_FAILED = 503 "savepoint-failed", "The savepoint came to nothing",
        "The copy could not be made; `detail` says why: something that was under way did not end in time, or the store refused a file. Nothing else is concerned, and what had been stored of it is removed.\n\n\
         Look at the store and its room, then ask again. Under a storm of fires or a slow disk, ask again when that is over.";
    DISK_FULL = 507 "disk-full", "The disk is full",
        "There is no room to write down what was asked, so it was refused. Nothing is lost; reads and fires go on.\n\n\
         Free or add disk space: the service goes on by itself. See stormwheel_data_dir_free_bytes.";
}
