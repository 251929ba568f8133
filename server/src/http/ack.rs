//! How durable a change is before it is answered: what was asked for, and what is told.

use super::app::Exchange;
use crate::config::AckLevel;
use axum::body::Body;
use http::{HeaderValue, Response};
use stormwheel::runtime::Ack;

/// The header that tells what was given.
pub(super) const ACK_HEADER: &str = "stormwheel-ack";

impl Exchange<'_> {
    /// When the operations of this request are to be answered.
    pub(super) fn ack(&self) -> Ack {
        self.ack_level().level()
    }

    fn ack_level(&self) -> AckLevel {
        // Any other word was refused when the query was read.
        match self.query.text("ack") {
            Some("accepted") => AckLevel::Accepted,
            Some("written") => AckLevel::Written,
            Some(_) => AckLevel::Synced,
            None => self.app.config.ack,
        }
    }

    /// Says how durable the operations of this request are.
    pub(super) fn acknowledged(&self, response: Response<Body>) -> Response<Body> {
        self.told(response, self.ack_level())
    }

    /// Says how durable a command is: they are few, and always synced before they are answered.
    pub(super) fn acknowledged_command(&self, response: Response<Body>) -> Response<Body> {
        self.told(response, AckLevel::Synced)
    }

    fn told(&self, mut response: Response<Body>, given: AckLevel) -> Response<Body> {
        // Where nothing is kept, nothing is more than accepted, whatever was asked for.
        let given = if self.app.config.in_memory { AckLevel::Accepted } else { given };
        response.headers_mut().insert(ACK_HEADER, HeaderValue::from_static(given.as_str()));
        response
    }
}
