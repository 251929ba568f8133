//! One run from beginning to end: make the namespace, open the stream, send the plan, wait until
//! what must fire has fired and a moment longer, hold both sides against each other, clean up.

use super::Meter;
use super::clock::{cpu_seconds, wall_ms};
use super::consumer::{Consumed, Consumer};
use super::due::DueTimes;
use super::plan::{Format, Plan, Workload};
use super::probe::Probe;
use super::producer::{Produced, produce};
use super::progress::Progress;
use super::report::{Aside, Report};
use crate::cli::{Client, Failure};
use http::Method;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often the end of a run is looked for.
const POLL: Duration = Duration::from_millis(20);
/// How long missing fires are waited for, unless said otherwise.
pub(crate) const GIVE_UP_MS: i64 = 10_000;
/// After the last expected fire: time for one too many to show.
const SETTLE: Duration = Duration::from_millis(300);
/// Timers of the other namespace during a storm, and the time around the storm they cover.
const BYSTANDERS: u64 = 4000;
const BYSTANDER_SPAN_MS: i64 = 4000;
/// How long before the storm the first of them falls due.
const BYSTANDER_LEAD_MS: i64 = 1000;

/// How a run treats its surroundings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    /// Leave the namespace behind.
    pub(crate) keep: bool,
    /// Show a progress bar on a terminal.
    pub(crate) bar: bool,
    /// Milliseconds without a fire, after the last was due, until the missing are given up.
    pub(crate) give_up_ms: i64,
}

/// Runs a plan and reports.
pub(crate) async fn run(client: &Client, plan: &Plan, manners: Manners) -> Result<Report, Failure> {
    plan.check().map_err(Failure::Usage)?;
    let bystander = bystander_plan(plan);
    create_namespace(client, &plan.namespace, "{}").await?;
    if let Some(other) = &bystander {
        create_namespace(client, &other.namespace, "{}").await?;
    }
    let report = tokio::select! {
        report = measure(client, plan, bystander.as_ref(), manners) => report,
        _ = tokio::signal::ctrl_c() => Err(Failure::Failed("interrupted".to_owned())),
    };
    if manners.keep {
        return report;
    }
    let mut removed = remove_namespace(client, &plan.namespace).await;
    if let Some(other) = &bystander {
        removed = removed.and(remove_namespace(client, &other.namespace).await);
    }
    // What went wrong first is what a person has to know.
    let report = report?;
    removed.map(|()| report)
}

async fn measure(
    client: &Client,
    plan: &Plan,
    bystander: Option<&Plan>,
    manners: Manners,
) -> Result<Report, Failure> {
    let cpu_before = cpu_seconds();
    let meter = Arc::new(Meter::default());
    let operations = plan.timers * plan.verbs().len() as u64;
    let progress = Progress::new(&plan.workload.title(), operations, manners.bar);
    let measured = tokio::select! {
        measured = drive(client, plan, bystander, &meter, manners) => measured,
        () = progress.follow(&meter) => Err(Failure::Failed("the progress bar ended".to_owned())),
    };
    progress.clear();
    let (produced, consumed, aside) = measured?;
    Ok(Report::new(plan, &produced, &consumed, &aside, cpu_seconds() - cpu_before))
}

async fn drive(
    client: &Client,
    plan: &Plan,
    bystander: Option<&Plan>,
    meter: &Arc<Meter>,
    manners: Manners,
) -> Result<(Produced, Consumed, Aside), Failure> {
    let due = Arc::new(DueTimes::new(plan, wall_ms()));
    let consumer = Consumer::start(client, plan, Arc::clone(&due), Arc::clone(meter)).await?;
    let mut other = None;
    if let Some(plan) = bystander {
        other = Some(start_bystander(client, plan, due.storm_ms()).await?);
    }
    let authority = client.authority();
    let produced = produce(plan, authority, Arc::clone(&due), Arc::clone(meter)).await?;
    let mut probe = None;
    if plan.workload == Workload::Storm && plan.probe_rate > 0 {
        probe = Some(Probe::start(plan, authority, due.storm_ms())?);
    }
    await_fires(&consumer, meter, &due, produced.tally.promises.expected(), manners).await;
    let mut aside = Aside { probed: None, bystander: None };
    if let Some(probe) = probe {
        aside.probed = Some(probe.finish().await?);
    }
    if let Some(other) = other {
        let expected = other.produced.tally.promises.expected();
        await_fires(&other.consumer, &other.meter, &other.due, expected, manners).await;
        aside.bystander = Some((other.produced, other.consumer.finish().await?));
    }
    Ok((produced, consumer.finish().await?, aside))
}

/// Waits until that many fires have come and a moment longer, or until none come any more.
async fn await_fires(
    consumer: &Consumer,
    meter: &Meter,
    due: &DueTimes,
    expected: u64,
    manners: Manners,
) {
    let mut fired = 0;
    let mut last_progress_ms = wall_ms();
    loop {
        let now_ms = wall_ms();
        let fired_now = meter.fired.load(Ordering::Relaxed);
        if fired_now > fired {
            (fired, last_progress_ms) = (fired_now, now_ms);
        }
        let idle_since_ms = last_progress_ms.max(due.latest_ms());
        if !consumer.is_reading() || now_ms > idle_since_ms + manners.give_up_ms {
            return;
        }
        if fired >= expected {
            tokio::time::sleep(SETTLE).await;
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The other namespace of a storm, registered and waiting.
struct Bystander {
    produced: Produced,
    consumer: Consumer,
    meter: Arc<Meter>,
    due: Arc<DueTimes>,
}

/// What runs beside a storm: timers of another namespace, spread around its millisecond.
fn bystander_plan(plan: &Plan) -> Option<Plan> {
    (plan.workload == Workload::Storm).then(|| Plan {
        workload: Workload::Uniform,
        format: Format::Ndjson,
        timers: BYSTANDERS,
        keys: BYSTANDERS,
        batch: 1000,
        connections: 1,
        rate: None,
        duration: None,
        over_ms: BYSTANDER_SPAN_MS,
        namespace: format!("{}-other", plan.namespace),
        ..plan.clone()
    })
}

async fn start_bystander(
    client: &Client,
    plan: &Plan,
    storm_ms: i64,
) -> Result<Bystander, Failure> {
    let now_ms = wall_ms();
    let lead_ms = (storm_ms - now_ms - BYSTANDER_LEAD_MS).max(200);
    let plan = Plan { lead_ms, ..plan.clone() };
    let due = Arc::new(DueTimes::new(&plan, now_ms));
    let meter = Arc::new(Meter::default());
    let consumer = Consumer::start(client, &plan, Arc::clone(&due), Arc::clone(&meter)).await?;
    let produced = produce(&plan, client.authority(), Arc::clone(&due), Arc::clone(&meter)).await?;
    Ok(Bystander { produced, consumer, meter, due })
}

/// A run needs a namespace of its own: what others put there would look like a fault.
pub(crate) async fn create_namespace(
    client: &Client,
    name: &str,
    config: &str,
) -> Result<(), Failure> {
    let path = format!("/v1/namespaces/{name}");
    match client.send(Method::GET, &path, None).await {
        Ok(_) => Err(Failure::Usage(format!(
            "the namespace {name} exists; choose another --namespace or --seed, or remove it with \
             `stormwheel namespaces delete {name} --force`"
        ))),
        Err(failure) if failure.status() == Some(404) => {
            client.send(Method::PUT, &path, Some(config.to_owned())).await.map(drop)
        }
        Err(failure) => Err(failure),
    }
}

pub(crate) async fn remove_namespace(client: &Client, name: &str) -> Result<(), Failure> {
    let path = format!("/v1/namespaces/{name}?force=true");
    client.send(Method::DELETE, &path, None).await.map(drop)
}
