//! Paging through what is pending, and the token that says where a page ended.

use crate::http::app::{Exchange, try_ask};
use crate::http::kinds::query_problem;
use crate::http::respond::json;
use crate::wire::key::parse_key_prefix;
use crate::wire::op::write_timer;
use crate::wire::problem::Problem;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Response;
use stormwheel::limits::LIST_LIMIT_MAX;
use stormwheel::query::{ListPage, ListPosition, ListQuery};
use stormwheel::time::{Domain, Timestamp};

/// Timers in a page unless asked otherwise.
const LIMIT_DEFAULT: usize = 100;

/// `GET …/timers`.
pub(crate) async fn list(exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let namespace = exchange.namespace()?;
    let asked = list_query(&exchange)?;
    let page: ListPage =
        try_ask(|reply| exchange.app.engine.list(&namespace, &asked, reply)).await?;
    let mut body = Vec::with_capacity(64 + 128 * page.timers.len());
    body.extend_from_slice(b"{\"timers\":[");
    for (index, timer) in page.timers.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write_timer(&mut body, timer, &namespace.config, exchange.query.time_format());
    }
    body.push(b']');
    if page.more
        && let Some(last) = page.timers.last()
    {
        body.extend_from_slice(b",\"next_page_token\":\"");
        body.extend_from_slice(encode_token(&ListPosition::of(last)).as_bytes());
        body.push(b'"');
    }
    body.push(b'}');
    Ok(json(body))
}

fn list_query(exchange: &Exchange<'_>) -> Result<ListQuery, Problem> {
    let query = &exchange.query;
    let key_prefix = match query.text("key_prefix") {
        Some(prefix) => parse_key_prefix(prefix)?,
        None => Vec::new(),
    };
    let after = query
        .text("page_token")
        .map(|token| {
            decode_token(token).ok_or_else(|| {
                query_problem("page_token", "is not a next_page_token of this listing")
            })
        })
        .transpose()?;
    let limit = query.integer("limit", 1, LIST_LIMIT_MAX as u64)?;
    Ok(ListQuery {
        domain: query.domain(),
        due_after: query.time("due_after")?.unwrap_or(Timestamp::MIN),
        due_before: query.time("due_before")?,
        key_prefix,
        after,
        limit: limit.map_or(LIMIT_DEFAULT, |limit| limit as usize),
    })
}

const NAMED: u8 = 1;
const EVENT: u8 = 2;
const HEAD_BYTES: usize = 11;

/// A position as opaque text: `fire_at (8) | flags (1) | key length (2) | key | name`, base64url.
fn encode_token(position: &ListPosition) -> String {
    let mut flags = 0;
    if position.name.is_some() {
        flags |= NAMED;
    }
    if position.domain == Domain::Event {
        flags |= EVENT;
    }
    let mut bytes = Vec::with_capacity(HEAD_BYTES + position.key.len());
    bytes.extend_from_slice(&position.fire_at.as_millis().to_be_bytes());
    bytes.push(flags);
    bytes.extend_from_slice(&(position.key.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&position.key);
    bytes.extend_from_slice(position.name.as_deref().unwrap_or_default().as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode_token(token: &str) -> Option<ListPosition> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (fire_at, rest) = bytes.split_first_chunk::<8>()?;
    let (flags, rest) = rest.split_first()?;
    let (key_len, rest) = rest.split_first_chunk::<2>()?;
    let (key, name) = rest.split_at_checked(usize::from(u16::from_be_bytes(*key_len)))?;
    if flags & !(NAMED | EVENT) != 0 || (flags & NAMED == 0 && !name.is_empty()) {
        return None;
    }
    let name = std::str::from_utf8(name).ok()?;
    Some(ListPosition {
        fire_at: Timestamp::from_millis(i64::from_be_bytes(*fire_at)),
        key: key.to_vec(),
        name: (flags & NAMED != 0).then(|| name.to_owned()),
        domain: if flags & EVENT == 0 { Domain::Processing } else { Domain::Event },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_where_the_page_ended() {
        for (name, domain) in [
            (None, Domain::Processing),
            (Some("expiry"), Domain::Event),
            (Some("ä"), Domain::Processing),
        ] {
            let position = ListPosition {
                fire_at: Timestamp::from_millis(-5),
                key: vec![0xff; 1_024],
                name: name.map(str::to_owned),
                domain,
            };
            assert_eq!(decode_token(&encode_token(&position)), Some(position));
        }
    }

    #[test]
    fn what_is_no_token_is_told_apart() {
        for bad in ["", "x", "AAAA", "!!!!", "AAAAAAAAAAAAAAUA"] {
            assert_eq!(decode_token(bad), None, "{bad}");
        }
    }
}
