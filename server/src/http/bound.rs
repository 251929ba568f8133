//! Routes bound to the paths at which they stand, and the router made of them.

use super::app::App;
use super::routes::{Call, ROUTES, Route, Verb};
use crate::metrics::RouteMetrics;
use axum::Router;
use axum::extract::Request;
use axum::routing::{MethodFilter, MethodRouter, on};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A variable part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the parts are what they are called")]
pub(crate) enum Segment {
    Namespace,
    Key,
    Name,
    Source,
    Slug,
    Number,
    Savepoint,
}

impl Segment {
    /// All of them, in the order of their discriminants.
    pub(crate) const ALL: [Self; 7] = [
        Self::Namespace,
        Self::Key,
        Self::Name,
        Self::Source,
        Self::Slug,
        Self::Number,
        Self::Savepoint,
    ];

    /// Its name in the template.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "ns",
            Self::Key => "key",
            Self::Name => "name",
            Self::Source => "source",
            Self::Slug => "slug",
            Self::Number => "n",
            Self::Savepoint => "id",
        }
    }

    /// What it is, in what is said of it.
    pub(crate) const fn noun(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            other => other.as_str(),
        }
    }
}

/// A route at one of its paths.
pub(crate) struct Bound {
    /// The route.
    pub route: &'static Route,
    /// The path that stands for it in logs and figures.
    pub template: String,
    /// Its figures.
    pub metrics: Arc<RouteMetrics>,
    /// Which part of the path is which, counted in slashes; 0 where there is none.
    positions: [usize; Segment::ALL.len()],
}

impl Bound {
    fn new(route: &'static Route, path: &str, metrics: Arc<RouteMetrics>) -> Self {
        Self { route, template: route.template(), metrics, positions: positions(path) }
    }

    /// Whether the path has such a part.
    pub(crate) fn has(&self, segment: Segment) -> bool {
        self.positions[segment as usize] != 0
    }

    /// That part of a path, as it was sent.
    pub(crate) fn raw_segment<'a>(&self, path: &'a str, segment: Segment) -> &'a str {
        path.split('/').nth(self.positions[segment as usize]).unwrap_or_default()
    }
}

/// Where the variable parts of a template stand.
fn positions(template: &str) -> [usize; Segment::ALL.len()] {
    Segment::ALL.map(|segment| {
        template
            .split('/')
            .position(|part| {
                let name = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
                name == Some(segment.as_str())
            })
            .unwrap_or(0)
    })
}

/// The router of all routes.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let mut paths: BTreeMap<String, (MethodRouter, Vec<&'static str>)> = BTreeMap::new();
    for route in ROUTES {
        let streams = route.call == Call::Outputs;
        let metrics = app.metrics.route(route.template(), route.verb.as_str(), streams);
        let metrics = Arc::new(metrics);
        for path in std::iter::once(route.template()).chain(route.default_template()) {
            let bound = Arc::new(Bound::new(route, &path, metrics.clone()));
            let app = app.clone();
            let handler = move |request: Request| app.clone().answer(bound.clone(), request);
            let (methods, verbs) = paths.entry(path).or_default();
            *methods = std::mem::take(methods).merge(on(filter(route.verb), handler));
            verbs.push(route.verb.as_str());
            if route.verb == Verb::Get {
                verbs.push("HEAD");
            }
        }
    }
    let mut router = Router::new();
    for (path, (methods, verbs)) in paths {
        let app = app.clone();
        let allow = verbs.join(", ");
        let refuse = move |request: Request| {
            let response = app.answer_unrouted(&request, Some(&allow));
            async move { response }
        };
        router = router.route(&path, methods.fallback(refuse));
    }
    let app = app.clone();
    router.fallback(move |request: Request| {
        let response = app.answer_unrouted(&request, None);
        async move { response }
    })
}

const fn filter(verb: Verb) -> MethodFilter {
    match verb {
        Verb::Get => MethodFilter::GET,
        Verb::Put => MethodFilter::PUT,
        Verb::Post => MethodFilter::POST,
        Verb::Patch => MethodFilter::PATCH,
        Verb::Delete => MethodFilter::DELETE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_where_the_template_has_them() {
        let route = ROUTES.iter().find(|route| route.call == Call::GetTimer).unwrap();
        // "/v1/namespaces/{ns}/keys/{key}/timers/{name}" has its first part behind the first slash.
        assert_eq!(positions(&route.template()), [3, 5, 7, 0, 0, 0, 0]);
        let of_default = route.default_template().unwrap();
        assert_eq!(positions(&of_default), [0, 3, 5, 0, 0, 0, 0]);
    }
}
