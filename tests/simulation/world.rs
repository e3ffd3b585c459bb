//! Everything outside of the poller: the kernel, the doors, the backends and the actors.

use std::collections::VecDeque;
use std::time::Duration;

use evenkeel::net::Address;
use evenkeel::transfer::{Failure, Shortage};

use crate::actors::{Actor, Scenario, Script};
use crate::kernel::{App, EndId, Event, Fate, Kernel, Trace, across};
use crate::{dice::Dice, faults::Faults};

/// The world around a [`SimPoller`](crate::net::SimPoller).
pub struct World {
    pub kernel: Kernel,
    pub actors: Vec<Actor>,
    pub doors: Vec<Door>,
    pub targets: Vec<Target>,
    /// Connects of the poller that were decided, or are to be tried again (`None`).
    pub dialed: Vec<(usize, Option<Fate>)>,
    /// Doors at which somebody stands.
    pub knocks: Vec<usize>,
    /// A tick is to end the wait.
    pub ticked: bool,
    /// No fault of this run keeps a connection to a backend from coming about.
    pub easy: bool,
}

/// Where clients knock.
#[derive(Debug)]
pub struct Door {
    pub address: Address,
    pub open: bool,
    /// Ends of ours that wait to be accepted.
    pub queue: VecDeque<EndId>,
}

/// Where the poller connects to.
#[derive(Debug)]
pub struct Target {
    pub address: Address,
    pub manner: Answer,
    /// What its backend plays; `None`: law tests hold the ends.
    pub scenario: Option<Scenario>,
    /// Ends accepted for a law test.
    pub accepted: VecDeque<EndId>,
    /// Connections that stood, ever.
    pub served: u64,
}

/// How a target answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As the faults have it.
    Weighted,
    /// It refuses.
    Refuse,
    /// It never answers.
    Never,
    /// It accepts and resets at once.
    Reset,
}

impl World {
    pub fn new(seed: u64, faults: Faults, trace: Trace) -> World {
        let easy = faults.are_easy();
        World {
            easy,
            kernel: Kernel::new(seed, faults, trace),
            actors: Vec::new(),
            doors: Vec::new(),
            targets: Vec::new(),
            dialed: Vec::new(),
            knocks: Vec::new(),
            ticked: false,
        }
    }

    /// A listening address; opened by `Poller::listen`.
    pub fn door(&mut self, address: Address) -> usize {
        self.doors.push(Door { address, open: false, queue: VecDeque::new() });
        self.doors.len() - 1
    }

    /// A backend.
    pub fn target(&mut self, address: Address, manner: Answer, scenario: Option<Scenario>) {
        let accepted = VecDeque::new();
        self.targets.push(Target { address, manner, scenario, accepted, served: 0 });
    }

    /// A client that knocks at a door after some time.
    pub fn client(&mut self, door: usize, script: Script, after: Duration) {
        let id = self.actors.len();
        let end = self.knock(door, App::Actor(id), after);
        self.actors.push(Actor::new(end, "client", script));
    }

    /// A connection to a door; whoever opens it holds the even end.
    pub fn knock(&mut self, door: usize, opener: App, after: Duration) -> EndId {
        let latency = self.kernel.latency();
        let client = self.kernel.connection(opener, App::Nobody, latency);
        self.kernel.after(after + latency, Event::Knock { client, door });
        client
    }

    /// What becomes of a connect to an address, and when; decided by the kernel's own shortage at
    /// once, which is `Err`.
    pub fn dial(&mut self, dial: usize, to: &Address) -> Result<(), Failure> {
        let mut latency = self.kernel.latency() * 2;
        let faults = self.kernel.faults.clone();
        if self.kernel.dice.chance(faults.syn_lost) {
            latency += Duration::from_secs(self.kernel.dice.pick(&[1, 3]));
        }
        let dice = &mut self.kernel.dice;
        if dice.chance(faults.shortage) {
            return Err(Failure::Shortage(dice.pick(&[
                Shortage::Descriptors,
                Shortage::SystemDescriptors,
                Shortage::Ports,
                Shortage::Memory,
            ])));
        }
        let found = self.targets.iter().position(|target| target.address == *to);
        let unix = to.path().is_some();
        let weighted = found.is_some_and(|at| self.targets[at].manner == Answer::Weighted);
        let (span, fate) = match found {
            None => (latency, Fate::Failed(Failure::Refused)),
            Some(target) if weighted => {
                if unix && dice.chance(faults.busy) {
                    return Err(Failure::Busy);
                } else if dice.chance(faults.refused) {
                    (latency, Fate::Failed(Failure::Refused))
                } else if !unix && dice.chance(faults.black_hole) {
                    (SYN_RETRIES, Fate::Failed(Failure::TimedOut))
                } else if !unix && dice.chance(faults.unreachable) {
                    (latency, Fate::Failed(Failure::Unreachable))
                } else if dice.chance(faults.reset_at_once) {
                    (latency, Fate::AcceptedAndReset { target })
                } else {
                    (latency, Fate::Accepted { target })
                }
            }
            Some(target) => match self.targets[target].manner {
                Answer::Refuse => (latency, Fate::Failed(Failure::Refused)),
                Answer::Never => (SYN_RETRIES, Fate::Failed(Failure::TimedOut)),
                Answer::Reset => (latency, Fate::AcceptedAndReset { target }),
                Answer::Weighted => unreachable!("dealt with above"),
            },
        };
        self.kernel.after(span, Event::Dialed { dial, fate });
        Ok(())
    }

    /// A connection of the poller to a target stands; returns the poller's end.
    pub fn establish(&mut self, target: usize, reset: bool) -> EndId {
        let latency = self.kernel.latency();
        self.targets[target].served += 1;
        let Some(scenario) = self.targets[target].scenario.clone() else {
            let end = self.kernel.connection(App::Poller, App::Hand, latency);
            self.targets[target].accepted.push_back(across(end));
            if reset {
                self.kernel.send_reset(across(end));
            }
            return end;
        };
        let id = self.actors.len();
        let end = self.kernel.connection(App::Poller, App::Actor(id), latency);
        let mut dice = Dice::new(self.kernel.dice.next());
        let script = scenario.backend(&mut dice);
        self.actors.push(Actor::new(across(end), "backend", script));
        if reset {
            self.actors[id].gone = true;
            self.actors[id].rude = true;
            self.kernel.send_reset(across(end));
        } else {
            let lazy = self.kernel.dice.spread(1, 2_000_000);
            self.kernel.after(Duration::from_nanos(lazy), Event::Actor { actor: id });
        }
        end
    }

    /// Lets the next event happen; false when there is none.
    pub fn step(&mut self) -> bool {
        let Some(event) = self.kernel.pop() else { return false };
        match event {
            Event::Segment { .. } | Event::Reset { .. } | Event::Window { .. } => {
                self.kernel.arrive(event);
            }
            Event::Dialed { dial, fate } => self.dialed.push((dial, Some(fate))),
            Event::Retry { dial } => self.dialed.push((dial, None)),
            Event::Knock { client, door } => self.knocked(client, door),
            Event::Actor { actor } => self.kernel.stirred.push(actor),
            Event::Tick => self.ticked = true,
        }
        while let Some(id) = self.kernel.stirred.pop() {
            self.actors[id].act(id, &mut self.kernel);
        }
        true
    }

    fn knocked(&mut self, client: EndId, door: usize) {
        let now = self.kernel.now;
        for end in [client, across(client)] {
            self.kernel.ends[end].since = now;
            self.kernel.ends[end].moved = now;
        }
        let App::Actor(actor) = self.kernel.ends[client].app else {
            self.doors[door].queue.push_back(across(client));
            return self.knocks.push(door);
        };
        if !self.doors[door].open {
            self.actors[actor].refused = true;
            self.actors[actor].gone = true;
            return;
        }
        self.doors[door].queue.push_back(across(client));
        self.knocks.push(door);
        let latency = self.kernel.ends[client].latency;
        self.kernel.after(latency, Event::Actor { actor });
    }

    /// Closes a door; whoever still waits there is reset.
    pub fn shut(&mut self, door: usize) {
        self.doors[door].open = false;
        while let Some(end) = self.doors[door].queue.pop_front() {
            self.kernel.ends[end].closed = true;
            self.kernel.send_reset(end);
        }
    }
}

/// How long Linux tries to connect: six SYNs again after the first.
const SYN_RETRIES: Duration = Duration::from_secs(127);
