//! The one table of routes: method, path, scope, call, and what the documentation says of it.
//!
//! The router and the `OpenAPI` document are both made from it, so neither can know a call that the
//! other does not. A route of `Place::AnyNamespace` is there twice: under `/v1/namespaces/{ns}`, and
//! under `/v1` for the namespace `default`.

mod elements;
mod savepoints;
mod table;

pub use table::ROUTES;

use super::manners::Media;
use super::query::Param;

/// Who may call. Nothing authenticates yet; the scopes are where that will find its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Puts something in.
    Ingest,
    /// Reads.
    Read,
    /// Changes namespaces and the service.
    Admin,
    /// Looks at health and figures.
    Metrics,
}

impl Scope {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }
}

/// HTTP methods that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the methods are what they are called")]
pub enum Verb {
    Get,
    Put,
    Post,
    Patch,
    Delete,
}

impl Verb {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// Where a path stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// As it is written.
    Root,
    /// Under `/v1/namespaces/{ns}`.
    Namespace,
    /// Under `/v1/namespaces/{ns}` and, for `default`, under `/v1`.
    AnyNamespace,
}

/// The functions behind the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is described by its route's summary")]
pub enum Call {
    PutTimer,
    PostTimer,
    GetTimer,
    GetKeyTimers,
    DeleteTimer,
    DeleteKeyTimers,
    Touch,
    Batch,
    Elements,
    Broadcast,
    ListTimers,
    Forecast,
    PutNamespace,
    PatchNamespace,
    ListNamespaces,
    GetNamespace,
    DeleteNamespace,
    PauseNamespace,
    ResumeNamespace,
    CloseNamespace,
    PutWatermark,
    DeleteWatermark,
    GetWatermark,
    PutClock,
    Outputs,
    AcceptClock,
    BeginCheckpoint,
    ListCheckpoints,
    GetCheckpoint,
    MakeSavepoint,
    ListSavepoints,
    GetSavepoint,
    RemoveSavepoint,
    Livez,
    Readyz,
    Metrics,
    OpenApi,
    Problems,
    Problem,
    Home,
}

/// What a call reads as its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Nothing: a body is refused.
    Nothing,
    /// One JSON object, up to the limit of single requests; the schema's name.
    Single(&'static str),
    /// A batch, up to the limit of batches; the name of the schema of its lines.
    Batch(&'static str),
}

impl Reads {
    /// The content types, the first being the one that is taken where nothing is said.
    pub const fn media(self) -> &'static [Media] {
        match self {
            Self::Nothing => &[],
            Self::Single(_) => &[Media::Json],
            Self::Batch(_) => &[Media::Ndjson, Media::Arrow],
        }
    }
}

/// One call.
#[derive(Debug)]
pub struct Route {
    /// Its method.
    pub verb: Verb,
    /// Where its path stands.
    pub place: Place,
    /// Its path, from there.
    pub path: &'static str,
    /// Who may call it.
    pub scope: Scope,
    /// What is called.
    pub call: Call,
    /// One line.
    pub summary: &'static str,
    /// Query parameters.
    pub params: &'static [Param],
    /// The body.
    pub reads: Reads,
    /// Forms of the answer, the first one if nothing is asked for.
    pub gives: &'static [Media],
    /// The schema of the answer, where it is JSON.
    pub schema: Option<&'static str>,
    /// It can create something, and then answers 201.
    pub creates: bool,
    /// It begins something, and answers 202 before that has ended.
    pub begins: bool,
}

impl Route {
    /// The full path with its parameters in braces; the label in metrics.
    pub fn template(&self) -> String {
        match self.place {
            Place::Root => self.path.to_owned(),
            Place::Namespace | Place::AnyNamespace => format!("/v1/namespaces/{{ns}}{}", self.path),
        }
    }

    /// The path for the namespace `default`, if it has one.
    pub fn default_template(&self) -> Option<String> {
        (self.place == Place::AnyNamespace).then(|| format!("/v1{}", self.path))
    }

    /// Whether `If-None-Match: *` means something here.
    pub fn registers(&self) -> bool {
        matches!(self.call, Call::PutTimer | Call::PostTimer)
    }

    /// Whether there is nothing to say once it is done: 204.
    pub fn gives_nothing(&self) -> bool {
        self.call == Call::RemoveSavepoint
    }

    /// Whether it is carried out once for each sequence number of a producer.
    pub fn takes_producer(&self) -> bool {
        matches!(
            self.call,
            Call::PutTimer
                | Call::PostTimer
                | Call::DeleteTimer
                | Call::DeleteKeyTimers
                | Call::Touch
                | Call::Batch
                | Call::Elements
                | Call::Broadcast
        )
    }
}
