//! `POST …/broadcast`: one element for all keys of a namespace.

use super::app::{Exchange, ask};
use super::elements::untimed;
use super::namespaces::misanswered;
use super::respond::json_value;
use crate::wire::elements::{parse_broadcast, refused};
use crate::wire::problem::{Problem, kinds};
use axum::body::Body;
use http::Response;
use serde_json::{Value, json};
use stormwheel::namespace::{Broadcast, BroadcastResult, Command, CommandReply};

/// Takes a broadcast.
pub(super) async fn run(mut exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let namespace = exchange.namespace()?;
    exchange.app.engine.check_broadcasts(&namespace)?;
    let settle = exchange.query.flag("settle")?;
    let producer = exchange.head.producer.read()?;
    let producer = producer.map(|(name, sequence)| (name.to_owned(), sequence));
    let body = exchange.read_json().await?;
    let (value, timestamp) = parse_broadcast(&body)?;
    let timestamp = match timestamp {
        Some(timestamp) => timestamp,
        None => untimed(&exchange, &namespace).await??,
    };
    let command = Command::Broadcast(Broadcast { timestamp, value: value.into(), producer });
    let engine = &exchange.app.engine;
    let reply = ask(|reply| engine.command(&namespace.name, command, settle, reply));
    let CommandReply::Broadcast { result, visited } = reply.await?.map_err(refused)? else {
        return Err(misanswered());
    };
    if result == BroadcastResult::Failed {
        let detail = "the function has failed at this broadcast, which is passed over; the side \
                      output `errors` has it, and says why";
        return Err(Problem::new(&kinds::FUNCTION_FAILED, detail));
    }
    let mut answer = json!({ "result": result.as_str() });
    if settle {
        answer["visited"] = Value::from(visited);
    }
    Ok(exchange.acknowledged_command(json_value(&answer)))
}
