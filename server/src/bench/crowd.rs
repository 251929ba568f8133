//! The workload `namespaces`: very many namespaces with a few timers each, made, filled and verified
//! over HTTP, and what a server takes for them.
//!
//! A namespace costs a control state machine, an entry in every lane and, once keys come, tables and
//! wheels of its own; this shows that small stays small, and that a crowd does not hold up the first
//! fire. Every namespace is verified like a run of its own; the time at which fires arrive is seen
//! on streams of the one that fires first and of some others.

use super::clock::{Stopwatch, wall_ms, wall_us};
use super::connection::Connection;
use super::consumer::{Line, read_line};
use super::crowd_report::CrowdReport;
use super::due::DueTimes;
use super::encode::{BatchHead, ndjson};
use super::ledger::{Fires, Verdict, verify};
use super::plan::{Format, Plan, Verb, Workload};
use super::progress::Progress;
use super::run::Manners;
use super::tally::{ErrorCount, Tally};
use super::{Meter, latency_histogram};
use crate::cli::{Client, Failure, LineBuffer};
use hdrhistogram::Histogram;
use http::Method;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;

/// Timers of each namespace.
pub(crate) const TIMERS_EACH: u64 = 10;
/// The most namespaces a run may have.
pub(crate) const NAMESPACES_MAX: u64 = 1_000_000;
/// Namespaces whose streams are read as they fire.
const WATCHED: usize = 16;
/// After the last due time: time for one too many to show.
const SETTLE_MS: i64 = 300;
/// How long to wait before fires that are missing are looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A run, all settled.
#[derive(Debug, Clone)]
pub(crate) struct Crowd {
    pub(crate) namespaces: u64,
    pub(crate) connections: u16,
    pub(crate) lead_ms: i64,
    pub(crate) over_ms: i64,
    pub(crate) seed: u64,
    /// How the names of the namespaces begin.
    pub(crate) prefix: String,
}

/// One of the namespaces.
struct Home {
    plan: Plan,
    due: DueTimes,
    tally: Tally,
    fires: Fires,
}

/// What a connection does with its share of the namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Create,
    /// Registers all timers; due times count from here.
    Register(i64),
    /// Reads all that fired; what is missing is looked for until then.
    Read(i64),
    Remove,
}

/// What a phase took.
#[derive(Debug)]
pub(crate) struct Took {
    pub(crate) seconds: f64,
    /// Nanoseconds of a request.
    pub(crate) latency_ns: Histogram<u64>,
}

/// What the streams saw as it came.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Microseconds from `fire_at` to the reading.
    pub(crate) lateness_us: Histogram<u64>,
    /// Of the timer that was due first of all.
    pub(crate) first_us: Option<i64>,
    /// Fires that arrived before their time by this machine's clock.
    pub(crate) early: u64,
}

/// Bytes of the server that are resident, where it says so.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(crate) struct Resident {
    pub(crate) before: Option<u64>,
    pub(crate) registered: Option<u64>,
    pub(crate) fired: Option<u64>,
}

/// All that a run found.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) create: Took,
    pub(crate) register: Took,
    /// Milliseconds from `fire_at` to `fired_at`, of all fires.
    pub(crate) lateness_ms: Histogram<u64>,
    pub(crate) watched: Watched,
    pub(crate) resident: Resident,
    pub(crate) verdict: Verdict,
    pub(crate) errors: BTreeMap<u16, ErrorCount>,
}

impl Crowd {
    /// Checks what can be wrong with the numbers; what it says names the flag.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(1..=NAMESPACES_MAX).contains(&self.namespaces) {
            return Err(format!(
                "--namespaces must be between 1 and {NAMESPACES_MAX}, not {}",
                self.namespaces
            ));
        }
        // The rest is checked as of any plan.
        Plan { connections: self.connections, lead_ms: self.lead_ms, ..self.plan_of(0) }.check()
    }

    fn plan_of(&self, index: u64) -> Plan {
        Plan {
            workload: Workload::Uniform,
            format: Format::Ndjson,
            timers: TIMERS_EACH,
            keys: TIMERS_EACH,
            batch: TIMERS_EACH as u32,
            connections: 1,
            rate: None,
            duration: None,
            lead_ms: 0,
            over_ms: self.over_ms,
            seed: self.seed.wrapping_add(index << 32),
            namespace: format!("{}-{index}", self.prefix),
            probe_rate: 0,
        }
    }

    fn homes(&self) -> Vec<Home> {
        let origin_ms = wall_ms();
        let home = |index| {
            let plan = self.plan_of(index);
            Home {
                due: DueTimes::new(&plan, origin_ms),
                tally: Tally::new(&plan),
                fires: Fires::new(&plan),
                plan,
            }
        };
        (0..self.namespaces).map(home).collect()
    }
}

/// Runs and reports.
pub(crate) async fn run(
    client: &Client,
    crowd: &Crowd,
    manners: Manners,
) -> Result<CrowdReport, Failure> {
    crowd.check().map_err(Failure::Usage)?;
    let meter = Arc::new(Meter::default());
    let progress = Progress::new("crowd", crowd.namespaces * 3, manners.bar);
    let mut created = false;
    let measured = tokio::select! {
        measured = measure(client, crowd, manners, &meter, &mut created) => measured,
        () = progress.follow(&meter) => Err(Failure::Failed("the progress bar ended".to_owned())),
        _ = tokio::signal::ctrl_c() => Err(Failure::Failed("interrupted".to_owned())),
    };
    progress.clear();
    // A namespace that was there before the run is not the run's to remove.
    if created && !manners.keep {
        let all = Workers::share(client, crowd.homes(), crowd.connections, &meter);
        all.run(Phase::Remove).await.map_err(Failure::Failed)?;
    }
    Ok(CrowdReport::new(crowd, &measured?))
}

async fn measure(
    client: &Client,
    crowd: &Crowd,
    manners: Manners,
    meter: &Arc<Meter>,
    created: &mut bool,
) -> Result<Findings, Failure> {
    refuse_standing(client, crowd).await?;
    let mut resident = Resident { before: resident_bytes(client).await, ..Resident::default() };
    *created = true;
    let all = Workers::share(client, crowd.homes(), crowd.connections, meter);
    let (all, create) = all.run(Phase::Create).await.map_err(Failure::Failed)?;
    let watch = start_watch(client, &all).await?;
    // Registering takes about as long as creating did.
    let begin_ms = wall_ms() + crowd.lead_ms + (create.seconds * 2_000.0) as i64;
    let registered = all.run(Phase::Register(begin_ms)).await;
    let (all, register) = registered.map_err(Failure::Failed)?;
    resident.registered = resident_bytes(client).await;
    let end_ms = begin_ms + crowd.over_ms;
    let wait_ms = (end_ms + SETTLE_MS - wall_ms()).max(0);
    tokio::time::sleep(Duration::from_millis(wait_ms as u64)).await;
    let give_up_ms = wall_ms() + manners.give_up_ms;
    let (all, _) = all.run(Phase::Read(give_up_ms)).await.map_err(Failure::Failed)?;
    resident.fired = resident_bytes(client).await;
    let watched = finish_watch(watch).await;
    let mut verdict = Verdict { ok: true, ..Verdict::default() };
    let mut errors = BTreeMap::new();
    for home in all.homes() {
        verdict.add(&home.plan.namespace, verify(&home.tally.promises, &home.fires));
        for (status, count) in &home.tally.errors {
            let sum = errors
                .entry(*status)
                .or_insert(ErrorCount { operations: 0, example: count.example.clone() });
            sum.operations += count.operations;
        }
    }
    let lateness_ms = all.lateness_ms();
    Ok(Findings { create, register, lateness_ms, watched, resident, verdict, errors })
}

/// A run makes its namespaces itself: what others put there would look like a fault, and its end
/// would take it away.
async fn refuse_standing(client: &Client, crowd: &Crowd) -> Result<(), Failure> {
    let begin = format!("{}-", crowd.prefix);
    // Names come in order, so those that begin so follow upon this.
    let path = format!("/v1/namespaces?limit=1&page_token={begin}");
    let page = client.send(Method::GET, &path, None).await?.json()?;
    let next = page["namespaces"][0]["namespace"].as_str().unwrap_or_default();
    if next.starts_with(&begin) {
        return Err(Failure::Usage(format!(
            "the namespace {next} exists; choose another --namespace or --seed"
        )));
    }
    Ok(())
}

/// What the server says of its own memory.
async fn resident_bytes(client: &Client) -> Option<u64> {
    let authority = client.authority();
    let mut head = format!("GET /metrics HTTP/1.1\r\nHost: {authority}\r\n\r\n").into_bytes();
    let mut connection = Connection::open(authority).await.ok()?;
    let answer = connection.exchange(&mut head, b"").await.ok()?;
    let text = std::str::from_utf8(answer.body).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "))?;
    line.trim().parse::<f64>().ok().map(|bytes| bytes as u64)
}

/// Connections with their shares of the namespaces.
struct Workers {
    authority: String,
    meter: Arc<Meter>,
    shares: Vec<Share>,
}

struct Share {
    homes: Vec<Home>,
    lateness_ms: Histogram<u64>,
}

impl Workers {
    fn share(client: &Client, homes: Vec<Home>, connections: u16, meter: &Arc<Meter>) -> Self {
        let each = homes.len().div_ceil(usize::from(connections)).max(1);
        let mut shares = Vec::new();
        let mut homes = homes.into_iter().peekable();
        while homes.peek().is_some() {
            let homes = homes.by_ref().take(each).collect();
            shares.push(Share { homes, lateness_ms: latency_histogram() });
        }
        Self { authority: client.authority().to_owned(), meter: Arc::clone(meter), shares }
    }

    fn homes(&self) -> impl Iterator<Item = &Home> {
        self.shares.iter().flat_map(|share| &share.homes)
    }

    fn lateness_ms(&self) -> Histogram<u64> {
        let mut sum = latency_histogram();
        for share in &self.shares {
            sum += &share.lateness_ms;
        }
        sum
    }

    /// Takes all namespaces through a phase.
    async fn run(self, phase: Phase) -> Result<(Self, Took), String> {
        let Self { authority, meter, shares } = self;
        let stopwatch = Stopwatch::start();
        let mut working = JoinSet::new();
        for share in shares {
            working.spawn(work(share, phase, authority.clone(), Arc::clone(&meter)));
        }
        let mut shares = Vec::new();
        let mut latency_ns = latency_histogram();
        while let Some(done) = working.join_next().await {
            let (share, latency) = done.map_err(|error| error.to_string())??;
            shares.push(share);
            latency_ns += latency;
        }
        let seconds = stopwatch.elapsed_ns() as f64 / 1e9;
        Ok((Self { authority, meter, shares }, Took { seconds, latency_ns }))
    }
}

async fn work(
    mut share: Share,
    phase: Phase,
    authority: String,
    meter: Arc<Meter>,
) -> Result<(Share, Histogram<u64>), String> {
    let broken = |error: std::io::Error| format!("the connection to {authority} broke: {error}");
    let mut connection = Connection::open(&authority).await.map_err(broken)?;
    let mut latency_ns = latency_histogram();
    let (mut head, mut body) = (Vec::new(), Vec::new());
    for home in &mut share.homes {
        loop {
            home.write(phase, &authority, &mut head, &mut body);
            let stopwatch = Stopwatch::start();
            let answer = connection.exchange(&mut head, &body).await.map_err(broken)?;
            latency_ns.saturating_record(stopwatch.elapsed_ns());
            if home.enter(phase, answer.status, answer.body, &mut share.lateness_ms)? {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        meter.answered.fetch_add(u64::from(phase != Phase::Remove), Ordering::Relaxed);
        meter.fired.fetch_add(home.fires.count, Ordering::Relaxed);
    }
    Ok((share, latency_ns))
}

impl Home {
    /// Writes the one request of a phase.
    fn write(&self, phase: Phase, authority: &str, head: &mut Vec<u8>, body: &mut Vec<u8>) {
        body.clear();
        let (method, below) = match phase {
            Phase::Create => ("PUT", ""),
            Phase::Read(_) => ("GET", "/outputs?limit=1000"),
            Phase::Remove => ("DELETE", "?force=true"),
            Phase::Register(begin_ms) => {
                let unit = self.plan.unit(0);
                self.due.note_sent(&unit, begin_ms);
                ndjson::write_body(body, &self.plan, &unit, Verb::Register, &self.due);
                BatchHead::new(&self.plan, authority).write(head, body.len());
                return;
            }
        };
        head.clear();
        let namespace = &self.plan.namespace;
        head.extend_from_slice(
            format!(
                "{method} /v1/namespaces/{namespace}{below} HTTP/1.1\r\nHost: {authority}\r\n\
                 Content-Length: 0\r\n\r\n"
            )
            .as_bytes(),
        );
    }

    /// Reads the answer. False if it has to be asked for again; an error ends the run.
    fn enter(
        &mut self,
        phase: Phase,
        status: u16,
        body: &[u8],
        lateness_ms: &mut Histogram<u64>,
    ) -> Result<bool, String> {
        let failed = |what: &str| {
            let said = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
            Err(format!("{} was not {what} ({status}): {said}", self.plan.namespace))
        };
        match phase {
            Phase::Create if status != 201 => return failed("created"),
            Phase::Remove if !matches!(status, 200 | 404) => return failed("removed"),
            Phase::Read(_) if status != 200 => return failed("read"),
            Phase::Create | Phase::Remove => {}
            Phase::Register(_) => {
                let answer = super::connection::Answer { status, body };
                self.tally.enter(Format::Ndjson, &self.plan.unit(0), Verb::Register, &answer);
            }
            Phase::Read(give_up_ms) => {
                let arrived_us = wall_us();
                let mut fires = Fires::new(&self.plan);
                let mut late = Vec::new();
                for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    match read_line(line, &self.plan) {
                        Line::Fire(fire) => {
                            late.push(fire.fired_at.saturating_sub(fire.fire_at).max(0) as u64);
                            fires.enter(fire, arrived_us, &self.due);
                        }
                        Line::Problem | Line::Unknown => fires.enter_unknown(line),
                    }
                }
                if fires.count < self.tally.promises.expected() && wall_ms() < give_up_ms {
                    return Ok(false);
                }
                self.fires = fires;
                for late in late {
                    lateness_ms.saturating_record(late);
                }
            }
        }
        Ok(true)
    }

    /// The earliest due time of it, from the begin of the window.
    fn earliest_ms(&self) -> i64 {
        (0..TIMERS_EACH).map(|number| self.plan.jitter_ms(number)).min().unwrap_or(0)
    }
}

/// Reads the streams of the namespace that fires first, and of some others.
async fn start_watch(client: &Client, all: &Workers) -> Result<JoinSet<Watched>, Failure> {
    let homes: Vec<&Home> = all.homes().collect();
    let first = homes.iter().min_by_key(|home| home.earliest_ms());
    let others = homes.iter().step_by(homes.len().div_ceil(WATCHED));
    let mut watching = JoinSet::new();
    for (index, home) in first.into_iter().chain(others).enumerate() {
        let path = format!("/v1/namespaces/{}/outputs", home.plan.namespace);
        let mut stream = client.open(&path).await?;
        let plan = home.plan.clone();
        watching.spawn(async move {
            let mut watched =
                Watched { lateness_us: latency_histogram(), first_us: None, early: 0 };
            let mut lines = LineBuffer::default();
            while watched.lateness_us.len() < TIMERS_EACH
                && let Ok(Some(piece)) = stream.frame().await
            {
                let arrived_us = wall_us();
                lines.feed(&piece, |line| {
                    let Line::Fire(fire) = read_line(line, &plan) else { return };
                    let late_us = arrived_us.saturating_sub(fire.fire_at.saturating_mul(1_000));
                    watched.early += u64::from(late_us < 0);
                    watched.lateness_us.saturating_record(late_us.max(0) as u64);
                    if index == 0 {
                        watched.first_us.get_or_insert(late_us);
                    }
                });
            }
            watched
        });
    }
    Ok(watching)
}

/// What the streams saw; one that is still waiting by now waits in vain.
async fn finish_watch(mut watching: JoinSet<Watched>) -> Watched {
    let mut sum = Watched { lateness_us: latency_histogram(), first_us: None, early: 0 };
    let limit = Duration::from_secs(1);
    while let Ok(Some(done)) = tokio::time::timeout(limit, watching.join_next()).await {
        if let Ok(watched) = done {
            sum.lateness_us += watched.lateness_us;
            sum.first_us = sum.first_us.or(watched.first_us);
            sum.early += watched.early;
        }
    }
    sum
}

#[cfg(test)]
mod tests;
