//! The deterministic simulation: scripted peers, a faulty kernel in virtual time, and oracles.
//!
//! ```text
//! EVENKEEL_SEED=304 cargo test --test simulation -- --nocapture   one run again, with its trace
//! EVENKEEL_SESSIONS=5000000 cargo test --test simulation          a wider sweep
//! ```

#![allow(clippy::disallowed_methods)] // the sweep tells how long it took in real time

mod actors;
mod dice;
mod driver;
#[allow(dead_code)] // the law suite uses the rest
mod faults;
mod kernel;
mod net;
mod oracle;
mod store;
#[allow(dead_code)] // the law suite uses the rest
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use evenkeel::session;

use crate::actors::{STORIES, Scenario};
use crate::dice::Dice;
use crate::faults::Faults;
use crate::kernel::{Event, Limits, Trace};
use crate::world::{Answer, World};

/// Plays the session sweep, or one seed of it.
#[test]
fn whatever_goes_wrong_the_relay_keeps_its_promises() {
    if let Some(seed) = variable("EVENKEEL_SEED") {
        let report = play(seed, Trace::Print);
        assert!(report.faults.is_empty(), "seed {seed}: {:#?}", report.faults);
        return;
    }
    let wanted = variable("EVENKEEL_SESSIONS").unwrap_or(100_000);
    let (mut sessions, mut seed, mut failing) = (0, 0, Vec::new());
    let started = std::time::Instant::now();
    while sessions < wanted && failing.len() < 5 {
        seed += 1;
        let report = play(seed, Trace::Off);
        sessions += report.sessions;
        if !report.faults.is_empty() {
            failing.push((seed, report.faults));
        }
    }
    println!("{sessions} sessions, {seed} seeds, {:?}", started.elapsed());
    if let Some((seed, faults)) = failing.first() {
        let lines = play(*seed, Trace::Keep(Vec::new())).trace;
        let tail = &lines[lines.len().saturating_sub(100)..];
        println!("the end of the trace of seed {seed}:\n{}", tail.join("\n"));
        for (seed, faults) in &failing {
            println!("seed {seed}: {}", faults.first().expect("it failed"));
        }
        panic!(
            "seed {seed}: {faults:#?}\nreplay: EVENKEEL_SEED={seed} cargo test --test simulation \
             -- --nocapture"
        );
    }
}

#[test]
fn a_seed_is_a_bug_report() {
    for seed in [3, 30, 300] {
        let (one, two) = (play(seed, Trace::Keep(Vec::new())), play(seed, Trace::Keep(Vec::new())));
        assert!(one.trace == two.trace, "seed {seed} did not play the same twice");
        assert!(one.trace.len() > 10);
    }
}

/// What came of a run.
struct Report {
    sessions: u64,
    faults: Vec<String>,
    trace: Vec<String>,
}

fn play(seed: u64, trace: Trace) -> Report {
    let world = stage(seed, trace);
    let sessions = world.borrow().actors.len() as u64;
    let played = catch_unwind(AssertUnwindSafe(|| driver::perform(&world, seed)));
    let mut world = world.try_borrow_mut().expect("nobody holds the world any more");
    let mut faults = std::mem::take(&mut world.kernel.verdicts);
    if let Err(panic) = played {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        faults.push(text.unwrap_or_else(|| "panic".to_owned()));
    }
    let trace = match std::mem::replace(&mut world.kernel.trace, Trace::Off) {
        Trace::Keep(lines) => lines,
        Trace::Off | Trace::Print => Vec::new(),
    };
    Report { sessions, faults, trace }
}

/// Sets the world of a seed up: listeners, their backends, and the clients to come.
fn stage(seed: u64, trace: Trace) -> Rc<RefCell<World>> {
    let mut dice = Dice::new(seed);
    let mut faults = Faults::swarm(&mut dice);
    // Now and then there is room for more than a session may move in one turn.
    let bulky = dice.chance(8);
    if bulky {
        faults.make_room();
    }
    // Small buffers take many events to fill; that is as good as many bytes.
    let narrow = faults.window.min(faults.send_buffer).min(faults.buffer_size as u64);
    let sizes = if bulky { 1 << 19..=1 << 20 } else { 1..=(narrow * 40).min(60_000) };
    let mut world = World::new(seed, faults, trace);
    world.kernel.judged = true;
    let idle = Duration::from_secs(dice.pick(&[3, 30, 3600]));
    let half_close = Duration::from_secs(dice.pick(&[2, 20, 300]));
    // The greatest wait is one for bytes, for a connection, or for the last acknowledgements.
    let longest = idle.max(half_close).max(driver::CONNECT_TOTAL) + Duration::from_secs(10);
    let grace = session::GRACE;
    world.kernel.limits = Limits { idle, half_close, grace, longest };
    world.kernel.note(|| format!("seed {seed}"));
    for service in 0..dice.between(1, 3) as usize {
        let scenario = Scenario::new(dice.pick(&STORIES), &sizes, &mut dice);
        world.kernel.note(|| format!("service {service} plays {scenario:?}"));
        let door = world.door(driver::front(service));
        for backend in driver::backends(service) {
            world.target(backend, Answer::Weighted, Some(scenario.clone()));
        }
        let rush = dice.spread(1, 10_000_000);
        for _ in 0..dice.between(1, 40) {
            let after = Duration::from_micros(dice.below(rush));
            let script = scenario.client(&mut dice);
            world.client(door, script, after);
        }
    }
    // Nothing may depend on events of the world alone: the end of all days is one.
    world.kernel.after(Duration::from_secs(48 * 3600), Event::Tick);
    Rc::new(RefCell::new(world))
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("the variable holds a number"))
}
