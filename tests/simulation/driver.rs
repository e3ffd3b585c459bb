//! The production worker, on the simulated poller.

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use evenkeel::config::{Format, Plan, parse};
use evenkeel::net::Address;
use evenkeel::poller::Poller;
use evenkeel::pool::Board;
use evenkeel::session::End;
use evenkeel::time::Moment;
use evenkeel::worker::admission::Admission;
use evenkeel::worker::crew::Crew;
use evenkeel::worker::stats::Stats;
use evenkeel::worker::{Command, Setup, Turn, Worker};

use crate::dice::Dice;
use crate::kernel::Event;
use crate::net::{SimListener, SimPoller};
use crate::oracle;
use crate::world::World;

/// All attempts of a session to connect.
pub const CONNECT_TOTAL: Duration = Duration::from_secs(10);

/// Where the clients of a service knock.
pub fn front(service: usize) -> Address {
    Address::Ip(([10, 0, 0, 1], 80 + service as u16).into())
}

/// The backends of a service; one of them is a Unix socket.
pub fn backends(service: usize) -> Vec<Address> {
    let ip = |n: u8| Address::Ip(([10, 0, 1 + service as u8, n], 8080).into());
    vec![ip(1), ip(2), Address::Unix(format!("/run/backend-{service}").into())]
}

/// Lets the worker play until everybody has gone home.
pub fn perform(world: &Rc<RefCell<World>>, seed: u64) {
    let mut dice = Dice::new(seed ^ 0xd61_7e5);
    let plan = Arc::new(plan(world, &mut dice));
    let board = Arc::new(Board::new(&plan));
    let most = if dice.chance(256) { dice.between(1, 20) as u32 } else { 100_000 };
    let admission = Arc::new(Admission::new(most));
    let stats = Arc::new(Stats::default());
    let (commands, obeyed) = bounded(4);
    let setup = Setup {
        board: Arc::clone(&board),
        resolved: Arc::new(plan.pools.iter().map(|pool| vec![None; pool.backends.len()]).collect()),
        listeners: (0..plan.listeners.len()).map(|door| (door, SimListener { door })).collect(),
        admission: Arc::clone(&admission),
        listener_admissions: vec![None; plan.listeners.len()],
        commands: obeyed,
        notices: crossbeam_channel::bounded(0).0,
        recorder: None,
        stats: Arc::clone(&stats),
        index: 0,
        crew: Arc::new(Crew::new(1)),
        seed: dice.next(),
        plan,
    };
    let mut worker = Worker::new(SimPoller::new(world.clone()), setup).expect("it listens");
    let waker = worker.waker();
    admission.notify(vec![worker.waker()]);
    let mut ending = Ending::random(world, &mut dice);
    let end_of_days = world.borrow().kernel.now + Duration::from_secs(47 * 3600);
    let mut late = 0;
    loop {
        if let Some(command) = ending.due(world) {
            commands.send(command).expect("the worker lives");
            waker.wake();
        }
        let turn = worker.turn().expect("the simulation does not fail");
        if turn == Turn::Finished && !worker.poller().is_restless() {
            break;
        }
        let restless = worker.sessions() > 0 || worker.poller().is_restless();
        let mut world = world.borrow_mut();
        if !world.kernel.verdicts.is_empty() {
            return;
        }
        if !restless && world.actors.iter().all(|actor| actor.gone) && !ending.told {
            ending.told = true;
            commands.send(Command::Stop).expect("the worker lives");
            waker.wake();
        }
        late += u32::from(world.kernel.now >= end_of_days);
        if late > 1000 {
            let left = worker.sessions();
            let waiting: Vec<_> = world.actors.iter().filter(|actor| !actor.gone).collect();
            let fault = format!("liveness: {left} sessions never ended, {waiting:#?} wait");
            world.kernel.verdict(fault);
            return;
        }
    }
    let gauges = worker.poller().gauges();
    let mut world = world.borrow_mut();
    // What the worker left to the kernel still arrives.
    while world.actors.iter().any(|actor| !actor.gone) && world.step() {}
    oracle::at_rest(&mut world, gauges);
    let closed: u64 = End::ALL.iter().map(|end| stats.closed(*end).read()).sum();
    let books = (board.live(), admission.open(), stats.accepted.read() - closed);
    if books != (0, 0, 0) {
        world.kernel.verdict(format!("safety: (live, admitted, unrecorded) is {books:?} at rest"));
    }
}

/// How a run ends: when everybody has left, or when the worker is told to.
struct Ending {
    command: Option<(Moment, Command)>,
    told: bool,
}

impl Ending {
    fn random(world: &Rc<RefCell<World>>, dice: &mut Dice) -> Ending {
        let after = Duration::from_micros(dice.spread(10, 60_000_000));
        let patience = Duration::from_micros(dice.spread(1, 60_000_000));
        let command = match dice.below(8) {
            0 => Some(Command::Drain(patience)),
            1 => Some(Command::Stop),
            _ => None,
        };
        let kernel = &mut world.borrow_mut().kernel;
        let at = kernel.now + after;
        if command.is_some() {
            kernel.at(at, Event::Tick);
        }
        Ending { command: command.map(|command| (at, command)), told: false }
    }

    /// The command, when its time has come.
    fn due(&mut self, world: &Rc<RefCell<World>>) -> Option<Command> {
        let kernel = &mut world.borrow_mut().kernel;
        let (at, command) = self.command.filter(|_| !self.told)?;
        if kernel.now < at {
            return None;
        }
        self.told = true;
        kernel.note(|| format!("{command:?}"));
        kernel.cut_at = match command {
            Command::Drain(patience) => kernel.now + patience,
            Command::Stop => kernel.now,
        };
        Some(command)
    }
}

/// The plan of a run, by way of a configuration file.
fn plan(world: &Rc<RefCell<World>>, dice: &mut Dice) -> Plan {
    let mut text = String::new();
    let world = world.borrow();
    let (idle, half_close) = (world.kernel.limits.idle, world.kernel.limits.half_close);
    let (attempts, connect) = (dice.between(1, 4), dice.between(1, 5));
    let zero_copy = dice.pick(&["auto", "always", "never"]);
    let algorithm = dice.pick(&[
        "round_robin",
        "least_connections",
        "p2c",
        "random",
        "source_hash",
        "peak_ewma",
        "first",
    ]);
    let accepts = dice.spread(1, 16);
    write!(
        text,
        "zero_copy: {zero_copy}\nlimits: {{accepts_per_wake: {accepts}}}\ntimeouts: {{connect: \
         {connect}s, connect_total: {}s, idle: {}s, half_close: {}s}}\nlisteners:\n",
        CONNECT_TOTAL.as_secs(),
        idle.as_secs(),
        half_close.as_secs(),
    )
    .expect("a string takes it");
    for (at, door) in world.doors.iter().enumerate() {
        writeln!(text, "  - {{name: l{at}, bind: \"{}\", pool: p{at}}}", door.address)
            .expect("a string takes it");
    }
    text.push_str("pools:\n");
    for at in 0..world.doors.len() {
        let list: Vec<_> = backends(at).iter().map(|address| format!("\"{address}\"")).collect();
        writeln!(
            text,
            "  - {{name: p{at}, algorithm: {algorithm}, retry: {{attempts: {attempts}}}, \
             backends: [{}]}}",
            list.join(", ")
        )
        .expect("a string takes it");
    }
    match parse(&text, "simulation.yaml", Format::Yaml, &|_| None) {
        Ok(loaded) => loaded.plan,
        Err(errors) => panic!("{text}\n{errors:?}"),
    }
}
