//! A worker to measure, in the thread that measures it: over a poller without a kernel, and over
//! the real one with real sockets.
//!
//! Also used by `tests/allocations.rs`.
#![allow(dead_code, reason = "every bench takes its own part")]

pub mod real;
pub mod still;

use std::sync::Arc;

use evenkeel::config::Plan;
use evenkeel::net::Address;
use evenkeel::poller::Poller;
use evenkeel::pool::Board;
use evenkeel::worker::admission::Admission;
use evenkeel::worker::crew::Crew;
use evenkeel::worker::stats::Stats;
use evenkeel::worker::{Setup, Worker};

/// A plan with one listener in front of these backends.
pub fn plan(backends: &[String]) -> Plan {
    let listen = ["127.0.0.1:1".to_owned()];
    Plan::one_line(&listen, backends, None).expect("these are addresses").plan
}

/// A worker that carries out a plan of one listener, and logs nothing.
pub fn worker<P: Poller>(poller: P, plan: Plan, listener: P::Listener) -> Worker<P> {
    let none: Vec<Vec<Option<Address>>> =
        plan.pools.iter().map(|pool| vec![None; pool.backends.len()]).collect();
    let setup = Setup {
        board: Arc::new(Board::new(&plan)),
        resolved: Arc::new(none),
        listeners: vec![(0, listener)],
        admission: Arc::new(Admission::new(100_000)),
        listener_admissions: vec![None; plan.listeners.len()],
        plan: Arc::new(plan),
        commands: crossbeam_channel::never(),
        notices: crossbeam_channel::bounded(0).0,
        recorder: None,
        stats: Arc::new(Stats::default()),
        index: 0,
        crew: Arc::new(Crew::new(1)),
        seed: 1,
    };
    Worker::new(poller, setup).expect("its listener can be watched")
}
