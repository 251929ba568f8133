//! Problems that only connections and bodies in transit know; all others stand in
//! `wire::problem::kinds`.

use crate::wire::problem::{Kind, Problem, kinds};

/// The call takes no body.
pub(super) const UNEXPECTED_BODY: Kind = Kind {
    slug: "unexpected-body",
    status: 400,
    title: "This call takes no body",
    help: "The request came with a body, and this call would ignore it. It is refused instead, \
           because the body may have narrowed down what was meant.\n\nWhat the call should do goes \
           into the path and the query.",
};
/// The body broke off, or is not what its encoding says.
pub(super) const BROKEN_BODY: Kind = Kind {
    slug: "broken-body",
    status: 400,
    title: "The body could not be read to its end",
    help: "The body broke off, or it is not what its Content-Encoding says. Nothing of it was \
           carried out.\n\nSend it again, whole; gzip and zstd are read.",
};
/// One address has too many connections.
pub(super) const TOO_MANY_CONNECTIONS: Kind = Kind {
    slug: "too-many-connections",
    status: 429,
    title: "Too many connections from this address",
    help: "One address has as many connections open as http.connections_per_ip_max allows.\n\nReuse \
           connections: each takes any number of requests, one after another.",
};
/// All connections are in use.
pub(super) const CONNECTIONS_EXHAUSTED: Kind = Kind {
    slug: "connections-exhausted",
    status: 503,
    title: "All connections are in use",
    help: "As many connections are open as http.connections_max allows.\n\nWait for Retry-After and \
           try again. Reuse connections, and close those that idle.",
};

/// What came is no HTTP request.
pub(super) const MALFORMED_REQUEST: Kind = Kind {
    slug: "malformed-request",
    status: 400,
    title: "Not an HTTP request",
    help: "The bytes that came are not the head of an HTTP/1.1 request: a line without a colon, a \
           character that may not stand there, two lengths that contradict each other. The \
           connection was closed.\n\nThe service speaks plain HTTP/1.1: no TLS, no HTTP/2. In paths, \
           what is not ASCII is percent-encoded.",
};

const OWN: [&Kind; 5] = [
    &MALFORMED_REQUEST,
    &UNEXPECTED_BODY,
    &BROKEN_BODY,
    &TOO_MANY_CONNECTIONS,
    &CONNECTIONS_EXHAUSTED,
];

/// All problems there are, of HTTP and of the wire, by status.
pub(super) fn all() -> Vec<&'static Kind> {
    let mut all: Vec<&'static Kind> = kinds::ALL.iter().copied().chain(OWN).collect();
    all.sort_by_key(|kind| (kind.status, kind.slug));
    all
}

/// A problem with a query parameter: "`limit` is empty".
pub(super) fn query_problem(name: &str, what: &str) -> Problem {
    Problem::new(&kinds::INVALID_QUERY, format!("`{name}` {what}")).field(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slug_stands_once() {
        let all = all();
        for kind in &all {
            let same = all.iter().filter(|other| other.slug == kind.slug).count();
            assert_eq!(same, 1, "{}", kind.slug);
        }
    }
}
