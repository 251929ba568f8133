//! Refusals outside of any call: of a connection that has no place, and of a head that hyper could
//! not read. They are written by hand, for there is no request that they could be an answer to.
//!
//! hyper answers such a head by a bare status. The watch below it ([`super::watch`]) puts the same
//! refusal in words in its place: [`in_words`].

use super::kinds::MALFORMED_REQUEST;
use crate::wire::problem::{Problem, kinds};
use std::fmt::Write as _;

/// A problem as a whole answer, after which the connection closes.
pub(super) fn raw_answer(problem: &Problem) -> Vec<u8> {
    let body = problem.to_json();
    let mut head = format!(
        "HTTP/1.1 {} Refused\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\n\
         content-length: {}\r\n",
        problem.kind.status,
        body.len()
    );
    if let Some(millis) = problem.retry_after_ms {
        // Writing to a string does not fail.
        let _ = write!(head, "retry-after: {}\r\n", millis.div_ceil(1_000).max(1));
    }
    head.push_str("connection: close\r\n\r\n");
    [head.as_bytes(), &body].concat()
}

/// What to say in place of these bytes, if they are a bare refusal of hyper's own.
///
/// It looks at all that is written, and so also at the rest of a body that did not go out at once.
/// But every answer of a call has a content type, and no body of ours can hold a line of its own
/// that reads like these: in JSON, line breaks inside of texts are escaped.
pub(super) fn in_words(bytes: &[u8]) -> Option<Vec<u8>> {
    const START: &[u8] = b"HTTP/1.1 4";
    const BARE: [&[u8]; 2] = [b"\r\nconnection: close\r\n", b"\r\ncontent-length: 0\r\n"];
    const BYTES_MAX: usize = 256;
    let holds = |line: &[u8]| bytes.windows(line.len()).any(|part| part == line);
    if !bytes.starts_with(START)
        || bytes.len() > BYTES_MAX
        || !bytes.ends_with(b"\r\n\r\n")
        || !BARE.iter().all(|line| holds(line))
        || holds(b"\r\ncontent-type:")
    {
        return None;
    }
    let problem = match bytes.get(START.len()..START.len() + 2)? {
        b"00" => {
            let detail = "what was sent is not the head of an HTTP/1.1 request";
            Problem::new(&MALFORMED_REQUEST, detail)
        }
        b"14" | b"31" => {
            let detail = format!(
                "the head has more than {} headers, or is far longer than allowed",
                super::accept::HEADERS_MAX
            );
            Problem::new(&kinds::HEADERS_TOO_LARGE, detail)
        }
        _ => return None,
    };
    Some(raw_answer(&problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str, status: Option<&str>) {
        let words = in_words(bytes.as_bytes()).map(|words| String::from_utf8(words).unwrap());
        match (words, status) {
            (None, None) => {}
            (Some(words), Some(status)) => {
                assert!(words.starts_with(&format!("HTTP/1.1 {status} ")), "{words}");
                let (head, body) = words.split_once("\r\n\r\n").unwrap();
                assert!(head.contains(&format!("content-length: {}", body.len())), "{words}");
                assert!(body.contains("\"type\":\"/problems/"), "{words}");
            }
            (words, _) => panic!("{bytes}: {words:?}"),
        }
    }

    #[test]
    fn only_bare_refusals_are_put_in_words() {
        let rest = "\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        check(&format!("HTTP/1.1 400 Bad Request{rest}"), Some("400"));
        check(&format!("HTTP/1.1 414 URI Too Long{rest}"), Some("431"));
        check(&format!("HTTP/1.1 431 Request Header Fields Too Large{rest}"), Some("431"));
        check(&format!("HTTP/1.1 400 Bad Request\r\ncontent-type: x{rest}"), None);
        check(&format!("HTTP/1.1 200 OK{rest}"), None);
        check(&format!("HTTP/1.1 404 Not Found{rest}"), None);
        check("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", None);
        check(&format!("HTTP/1.1 400 Bad Request{rest}and more"), None);
        check("HTTP/1.1 400 in a payload\"}\n", None);
        check("HTTP/1.1 4", None);
        check("", None);
    }
}
