//! How many timers fall due when: the storm, seen before it comes.

use crate::http::app::{Exchange, try_ask};
use crate::http::kinds::query_problem;
use crate::http::respond::json;
use crate::wire::problem::Problem;
use crate::wire::time::write_time;
use axum::body::Body;
use http::Response;
use std::sync::Arc;
use stormwheel::error::Rejection;
use stormwheel::limits::FORECAST_STEPS_MAX;
use stormwheel::namespace::NamespaceStatus;
use stormwheel::query::{FORECAST_STEP_MS, Forecast, ForecastQuery};
use stormwheel::runtime::NamespaceEntry;
use stormwheel::time::{Domain, Timestamp};

/// How far it looks unless asked otherwise.
const SPAN_MS_DEFAULT: i64 = 3_600_000;

/// `GET …/forecast`.
pub(crate) async fn forecast(exchange: Exchange<'_>) -> Result<Response<Body>, Problem> {
    let namespace = exchange.namespace()?;
    let query = &exchange.query;
    let domain = query.domain().unwrap_or_default();
    let from = match query.time("from")? {
        Some(from) => from,
        None => now_of(&exchange, &namespace, domain).await?,
    };
    let to = query.time("to")?.unwrap_or_else(|| from.saturating_add(SPAN_MS_DEFAULT));
    let asked = steps(domain, from, to, query.duration_ms("step")?)?;
    let found: Forecast =
        try_ask(|reply| exchange.app.engine.forecast(&namespace, asked, reply)).await?;
    Ok(json(render(&exchange, &asked, &found)))
}

/// Cuts the span into whole steps that the engine keeps counts for.
fn steps(
    domain: Domain,
    from: Timestamp,
    to: Timestamp,
    step_ms: Option<i64>,
) -> Result<ForecastQuery, Problem> {
    let step_ms = step_ms.unwrap_or(FORECAST_STEP_MS);
    if step_ms == 0 {
        return Err(query_problem("step", "is 0; it must be longer"));
    }
    if to <= from {
        return Err(query_problem("to", "is not after `from`"));
    }
    let widened = step_ms
        .div_euclid(FORECAST_STEP_MS)
        .saturating_add(i64::from(step_ms % FORECAST_STEP_MS != 0))
        .checked_mul(FORECAST_STEP_MS)
        .ok_or_else(|| query_problem("step", "is too long"))?;
    let from = from.floor_to(FORECAST_STEP_MS);
    let span = i128::from(to.as_millis()) - i128::from(from.as_millis());
    let step = i128::from(widened);
    let steps = (span + step - 1) / step;
    if steps > FORECAST_STEPS_MAX as i128 {
        let detail = format!(
            "cuts the span into {steps} steps of {widened} ms, allowed are {FORECAST_STEPS_MAX}; \
             widen it or narrow `from` and `to`"
        );
        let mut problem = query_problem("step", &detail);
        problem.limit = Some(FORECAST_STEPS_MAX as u64);
        problem.actual = u64::try_from(steps).ok();
        return Err(problem);
    }
    Ok(ForecastQuery { domain, from, step_ms: widened, steps: steps as usize })
}

/// What the clock or the watermark of the namespace reads.
async fn now_of(
    exchange: &Exchange<'_>,
    namespace: &Arc<NamespaceEntry>,
    domain: Domain,
) -> Result<Timestamp, Problem> {
    let status: NamespaceStatus =
        try_ask(|reply| exchange.app.engine.describe(namespace, reply)).await?;
    let (now, missing, what) = match domain {
        Domain::Processing => (status.now, Rejection::ClockUnset, "the clock was not set"),
        Domain::Event => (status.watermark, Rejection::WatermarkUnset, "there is no watermark"),
    };
    now.ok_or_else(|| {
        let mut problem = Problem::from(missing);
        problem.detail = format!("{what} yet, so there is no now to begin with; say `from`");
        problem.field = Some("from".to_owned());
        problem
    })
}

fn render(exchange: &Exchange<'_>, asked: &ForecastQuery, found: &Forecast) -> Vec<u8> {
    let times = exchange.query.time_format();
    let span_ms = asked.step_ms.saturating_mul(asked.steps as i64);
    let mut body = Vec::with_capacity(128 + 4 * found.counts.len());
    body.extend_from_slice(b"{\"domain\":\"");
    body.extend_from_slice(asked.domain.as_str().as_bytes());
    body.extend_from_slice(b"\",\"from\":");
    write_time(&mut body, asked.from, times);
    body.extend_from_slice(b",\"to\":");
    write_time(&mut body, asked.from.saturating_add(span_ms), times);
    let counts: Vec<String> = found.counts.iter().map(u64::to_string).collect();
    let rest = format!(
        ",\"step_ms\":{},\"counts\":[{}],\"before\":{},\"after\":{}}}",
        asked.step_ms,
        counts.join(","),
        found.before,
        found.after
    );
    body.extend_from_slice(rest.as_bytes());
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: i64, to: i64, step_ms: Option<i64>, expected: (i64, i64, usize)) {
        let (from, to) = (Timestamp::from_millis(from), Timestamp::from_millis(to));
        let asked = steps(Domain::Processing, from, to, step_ms).unwrap();
        let found = (asked.from.as_millis(), asked.step_ms, asked.steps);
        assert_eq!(found, expected);
    }

    fn check_refused(from: i64, to: i64, step_ms: Option<i64>, field: &str) {
        let (from, to) = (Timestamp::from_millis(from), Timestamp::from_millis(to));
        let problem = steps(Domain::Processing, from, to, step_ms).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some(field), "{}", problem.detail);
    }

    #[test]
    fn steps_are_whole_minutes_and_cover_the_span() {
        check(0, 3_600_000, None, (0, 60_000, 60));
        check(30_000, 3_600_000, None, (0, 60_000, 60));
        check(0, 3_600_001, None, (0, 60_000, 61));
        check(0, 60_000, Some(1), (0, 60_000, 1));
        check(0, 600_000, Some(90_000), (0, 120_000, 5));
        check(-1, 1, None, (-60_000, 60_000, 2));
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        check_refused(5, 5, None, "to");
        check_refused(5, 4, None, "to");
        check_refused(0, 1, Some(0), "step");
        check_refused(0, 2_001 * 60_000, None, "step");
        check_refused(i64::MIN, i64::MAX, None, "step");
    }
}
