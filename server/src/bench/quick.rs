//! `bench --quick`: a server in this process on a free port, and a small run of each kind against
//! it, about ten seconds in all. It shows whether a build is sound, not how fast a machine is.

use super::plan::{Format, Plan, Workload};
use crate::cli::Failure;
use crate::config::ServerConfig;
use crate::{RunningServer, Server};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use stormwheel::runtime::SystemClock;

/// Starts a server with working defaults on a free port of the loopback.
pub(crate) async fn start_server() -> Result<RunningServer, Failure> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = ServerConfig { listen, in_memory: true, ..ServerConfig::default() };
    let started = Server::start(config, Arc::new(SystemClock)).await;
    started.map_err(|error| Failure::Failed(format!("the server did not start: {error}")))
}

/// The runs, in their order.
pub(crate) fn plans(seed: u64) -> Vec<Plan> {
    let base = Plan {
        workload: Workload::Uniform,
        format: Format::Ndjson,
        timers: 200_000,
        keys: 200_000,
        batch: 5000,
        connections: 2,
        rate: None,
        duration: None,
        lead_ms: 500,
        over_ms: 1000,
        seed,
        namespace: String::new(),
        probe_rate: 0,
    };
    let singles = 10_000;
    let mut plans = vec![
        base.clone(),
        Plan { format: Format::Arrow, ..base.clone() },
        Plan {
            format: Format::Single,
            timers: singles,
            keys: singles,
            batch: 1,
            connections: 16,
            ..base.clone()
        },
        Plan { workload: Workload::Cancel, rate: Some(100_000.0), ..base.clone() },
        Plan { workload: Workload::Storm, probe_rate: 100, ..base.clone() },
    ];
    for (index, plan) in plans.iter_mut().enumerate() {
        plan.namespace = format!("bench-quick-{seed}-{index}");
    }
    plans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_plans_are_good_and_apart() {
        let plans = plans(7);
        for (index, plan) in plans.iter().enumerate() {
            assert_eq!(plan.check(), Ok(()));
            assert!(plans[..index].iter().all(|other| other.namespace != plan.namespace));
        }
    }
}
