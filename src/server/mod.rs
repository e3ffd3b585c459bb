//! From a plan to running threads, and from a signal to their end.
//!
//! Knows: workers, the plan, the poller, listening sockets. Nobody imports it but `main`.

mod bind;
mod capacity;
mod engine;
mod signals;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::io::{self, Write};
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use nix::sys::signal::Signal;

use crate::config::{Access, LogOutput, Plan, PoolPlan, Target, Workers};
use crate::machine;
use crate::net::{Address, Listener};
use crate::observe::access_log::{self, Batch, Record};
use crate::poller::readiness::{PIPE_SIZE, Readiness, Settings};
use crate::poller::{Poller, Waker};
use crate::pool::Board;
use crate::session::End;
use crate::worker::admission::Admission;
use crate::worker::crew::Crew;
use crate::worker::recorder::{Keep, Recorder};
use crate::worker::stats::Stats;
use crate::worker::{Command, Notice, Setup, Turn, Worker};
use bind::Paths;
pub use capacity::Capacity;
use engine::Engine;

/// Why a server could not start or go on.
#[derive(Debug)]
pub enum Fatal {
    /// The plan cannot be carried out on this machine; the message names the key.
    Start(String),
    /// Something broke that should not have.
    Running(String),
}

impl Fatal {
    /// What the process should exit with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Fatal::Start(_) => 2,
            Fatal::Running(_) => 1,
        }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fatal::Start(message) | Fatal::Running(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Fatal {}

/// Makes signals wait until [`run`] hears them. To be called before the first thread is started.
pub fn block_signals() {
    signals::block();
}

/// Carries out a plan until a signal ends it; `on_ready` is called once every worker accepts.
///
/// # Errors
/// What keeps it from starting, or a worker that failed.
pub fn run(plan: Plan, on_ready: impl FnOnce()) -> Result<(), Fatal> {
    signals::block();
    let (signal_sender, signal_receiver) = unbounded();
    signals::listen(signal_sender).map_err(|error| start("cannot start a thread", &error))?;
    let plan = Arc::new(plan);
    let cores = cores();
    let workers = match plan.workers {
        Workers::Auto => cores.len().max(1),
        Workers::Count(count) => usize::from(count),
    };
    let engine = Engine::choose(plan.poller)?;
    let descriptors = machine::raise_open_files()
        .map_err(|error| start("cannot read the limit of open files", &error))?;
    let capacity = Capacity::of(&plan, workers, descriptors).map_err(Fatal::Start)?;
    let Some(resolved) = resolve_unless_stopped(&plan, &signal_receiver)? else {
        return Ok(());
    };
    let resolved = Arc::new(resolved);
    let bound = bind::bind_all(&plan, workers).map_err(Fatal::Start)?;
    warn_of_fastopen(&plan);
    let fleet = match engine {
        Engine::Readiness => {
            let make = || Readiness::new(settings(&capacity));
            Fleet::start(&plan, &capacity, &resolved, bound.sockets, &cores, make)?
        }
        #[cfg(target_os = "linux")]
        Engine::Uring => {
            use crate::poller::uring::{Peers, Uring};

            // Access records ask who a client is, and so do some pools.
            let is_asked =
                plan.log.access != Access::Off || plan.pools.iter().any(PoolPlan::asks_for_client);
            let peers = if is_asked { Peers::Told } else { Peers::Untold };
            let make = || Uring::open(settings(&capacity), peers);
            Fleet::start(&plan, &capacity, &resolved, bound.sockets, &cores, make)?
        }
    };
    let where_to = |(at, address): &(usize, Address)| {
        let listener = &plan.listeners[*at];
        format!("{} on {address} -> {}", listener.name, plan.pools[listener.pool].name)
    };
    let listeners: Vec<String> = bound.addresses.iter().map(where_to).collect();
    log::info!("ready: {}", listeners.join(", "));
    log::info!(
        "{workers} worker{} on {}, at most {} connections ({descriptors} descriptors)",
        if workers == 1 { "" } else { "s" },
        engine.name(),
        capacity.connections
    );
    on_ready();
    fleet.supervise(&plan, &signal_receiver, &bound.paths)
}

fn settings(capacity: &Capacity) -> Settings {
    Settings {
        buffers_max: capacity.buffers as usize,
        pipes_max: capacity.pipes as usize,
        pipe_size: PIPE_SIZE,
        ..Settings::default()
    }
}

/// Says so when TCP Fast Open was asked for and the system does the usual handshake all the same.
fn warn_of_fastopen(plan: &Plan) {
    let Some((opens, accepts)) = machine::fastopen() else { return };
    let sysctl = "(sysctl net.ipv4.tcp_fastopen=3 allows it both ways)";
    for listener in plan.listeners.iter().filter(|listener| listener.fastopen && !accepts) {
        log::warn!("listener \"{}\": fastopen is off in this system {sysctl}", listener.name);
    }
    for pool in plan.pools.iter().filter(|pool| pool.fastopen && !opens) {
        log::warn!("pool \"{}\": fastopen is off in this system {sysctl}", pool.name);
    }
}

/// The running threads.
struct Fleet {
    commands: Vec<Sender<Command>>,
    wakers: Vec<Waker>,
    stats: Vec<Arc<Stats>>,
    board: Arc<Board>,
    ended: Receiver<io::Result<()>>,
    notices: Receiver<Notice>,
    /// Says when the last access record is written.
    written: Option<Receiver<()>>,
}

impl Fleet {
    fn start<P>(
        plan: &Arc<Plan>,
        capacity: &Capacity,
        resolved: &Arc<Vec<Vec<Option<Address>>>>,
        sockets: Vec<Vec<(usize, Listener)>>,
        cores: &[usize],
        make_poller: impl Fn() -> io::Result<P>,
    ) -> Result<Fleet, Fatal>
    where
        P: Poller<Listener = Listener> + Send + 'static,
    {
        let workers = sockets.len();
        let board = Arc::new(Board::new(plan));
        let admission = Arc::new(Admission::new(capacity.connections));
        let limit = |most: u32| Arc::new(Admission::new(most));
        let listener_admissions: Vec<_> =
            plan.listeners.iter().map(|listener| listener.max_connections.map(limit)).collect();
        let (records, written) = start_writer(plan)?;
        let (noticed, notices) = bounded(NOTICES);
        let crew = Arc::new(Crew::new(workers));
        let mut fleet = Fleet {
            commands: Vec::new(),
            wakers: Vec::new(),
            stats: Vec::new(),
            board,
            ended: crossbeam_channel::never(),
            notices,
            written,
        };
        let seed = RandomState::new();
        let mut hands = Vec::new();
        for (index, listeners) in sockets.into_iter().enumerate() {
            let poller =
                make_poller().map_err(|error| start("cannot make an event queue", &error))?;
            let (commands, obeyed) = bounded(COMMANDS);
            let stats = Arc::new(Stats::default());
            let setup = Setup {
                plan: Arc::clone(plan),
                board: Arc::clone(&fleet.board),
                resolved: Arc::clone(resolved),
                listeners,
                admission: Arc::clone(&admission),
                listener_admissions: listener_admissions.clone(),
                commands: obeyed,
                notices: noticed.clone(),
                recorder: records.as_ref().map(Records::recorder),
                stats: Arc::clone(&stats),
                index,
                crew: Arc::clone(&crew),
                seed: seed.hash_one(index),
            };
            let worker = Worker::new(poller, setup)
                .map_err(|error| start("cannot watch a listening socket", &error))?;
            fleet.commands.push(commands);
            fleet.wakers.push(worker.waker());
            fleet.stats.push(stats);
            hands.push(worker);
        }
        admission.notify(fleet.wakers.clone());
        crew.notify(fleet.wakers.clone());
        let (ended_sender, ended) = bounded(workers);
        let (accepting_sender, accepting) = bounded(workers);
        fleet.ended = ended;
        for (index, mut worker) in hands.into_iter().enumerate() {
            let ended = ended_sender.clone();
            let accepting = accepting_sender.clone();
            let core = plan.pin_workers.then(|| cores.get(index % cores.len().max(1)).copied());
            thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    if let Some(core) = core.flatten() {
                        pin(core);
                    }
                    // The first turn accepts whoever waits already, and comes back at once.
                    let mut turn = worker.turn();
                    let _ = accepting.send(());
                    let result = loop {
                        match turn {
                            Ok(Turn::Running) => turn = worker.turn(),
                            Ok(Turn::Finished) => break Ok(()),
                            Err(error) => break Err(error),
                        }
                    };
                    drop(worker); // its recorder with it, so that the writer can end
                    let _ = ended.send(result);
                })
                .map_err(|error| start("cannot start a worker thread", &error))?;
        }
        for _ in 0..workers {
            let _ = accepting.recv();
        }
        Ok(fleet)
    }

    /// Obeys signals until every worker has ended.
    fn supervise(
        self,
        plan: &Plan,
        signals: &Receiver<Signal>,
        paths: &Paths,
    ) -> Result<(), Fatal> {
        let mut running = self.commands.len();
        let mut stopping = false;
        let mut result = Ok(());
        let mut pauses = 0u64;
        while running > 0 {
            select! {
                recv(self.notices) -> notice => if let Ok(Notice::Paused(failure)) = notice {
                    pauses += 1;
                    if pauses.is_power_of_two() {
                        log::warn!("accepting pauses: {failure} ({pauses} so far)");
                    }
                },
                recv(self.ended) -> ended => {
                    running -= 1;
                    if let Ok(Err(error)) = ended {
                        result = Err(Fatal::Running(format!("a worker failed: {error}")));
                        self.command(Command::Stop);
                    }
                }
                recv(signals) -> signal => match signal {
                    Ok(Signal::SIGTERM | Signal::SIGINT) if stopping => {
                        self.command(Command::Stop);
                        log::info!("stopping now: {} sessions are cut", self.open());
                    }
                    Ok(signal @ (Signal::SIGTERM | Signal::SIGINT)) => {
                        stopping = true;
                        self.command(Command::Drain(plan.drain));
                        // At once, so that a successor can have the path while we drain.
                        paths.remove();
                        log::info!(
                            "{signal}: draining {} sessions for up to {:?}; once more ends them now",
                            self.open(),
                            plan.drain,
                        );
                    }
                    Ok(Signal::SIGQUIT | Signal::SIGUSR1) => log::info!("{}", self.summary()),
                    Ok(signal @ (Signal::SIGHUP | Signal::SIGUSR2)) => log::warn!(
                        "{signal}: this version cannot reload or upgrade; restart it to change \
                         anything (SIGTERM drains)"
                    ),
                    Ok(other) => log::warn!("{other} is not for us"),
                    Err(_) => unreachable!("the signal thread lives as long as we listen"),
                }
            }
        }
        paths.remove();
        log::info!("stopped: {}", self.summary());
        if let Some(written) = self.written {
            // The writer lets go when the workers' ends of its channel have gone; one whose output
            // is blocked is not waited for.
            let _ = written.recv_timeout(LAST_RECORDS);
        }
        result
    }

    fn command(&self, command: Command) {
        for (commands, waker) in self.commands.iter().zip(&self.wakers) {
            let _ = commands.try_send(command);
            waker.wake();
        }
    }

    fn open(&self) -> u64 {
        self.stats.iter().map(|stats| stats.open.read()).sum()
    }

    /// All counters in one line.
    fn summary(&self) -> String {
        let sum = |read: fn(&Stats) -> u64| self.stats.iter().map(|stats| read(stats)).sum::<u64>();
        let mut text = format!(
            "accepted={} handed_over={} open={} backend_connections={} bytes_in={} bytes_out={} spliced={} \
             retries={} pauses={} pipes_in_use={} buffers_in_use={} records_dropped={}",
            sum(|stats| stats.accepted.read()),
            sum(|stats| stats.handed_over.read()),
            self.open(),
            self.board.live(),
            sum(|stats| stats.bytes_up.read()),
            sum(|stats| stats.bytes_down.read()),
            sum(|stats| stats.bytes_spliced.read()),
            sum(|stats| stats.retries.read()),
            sum(|stats| stats.pauses.read()),
            sum(|stats| stats.pipes.read()),
            sum(|stats| stats.buffers.read()),
            sum(|stats| stats.records_dropped.read()),
        );
        for end in End::ALL {
            let count: u64 = self.stats.iter().map(|stats| stats.closed(end).read()).sum();
            if count > 0 {
                text.push_str(&format!(" {end}={count}"));
            }
        }
        text
    }
}

/// The ends of the record channels that recorders are made of.
struct Records {
    batches: Sender<Batch>,
    empties: Receiver<Vec<Record>>,
    keep: Keep,
}

impl Records {
    fn recorder(&self) -> Recorder {
        Recorder::new(self.batches.clone(), self.empties.clone(), self.keep)
    }
}

/// Starts the thread that writes access records, where any are wanted.
fn start_writer(plan: &Arc<Plan>) -> Result<(Option<Records>, Option<Receiver<()>>), Fatal> {
    let keep = match plan.log.access {
        Access::Off => return Ok((None, None)),
        Access::All => Keep::All,
        Access::Errors => Keep::Errors,
        Access::Sampled(n) => Keep::OneIn(n),
    };
    let out: Box<dyn Write + Send> = match &plan.log.output {
        LogOutput::Stderr => Box::new(io::stderr()),
        LogOutput::Stdout => Box::new(io::stdout()),
        LogOutput::File(path) => {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            Box::new(file.map_err(|error| {
                start(&format!("log.output: cannot open {}", path.display()), &error)
            })?)
        }
    };
    let (batches, received) = bounded(BATCHES);
    let (emptied, empties) = bounded(BATCHES);
    let plan = Arc::clone(plan);
    let (write_last, written) = bounded(1);
    thread::Builder::new()
        .name("access-log".into())
        .spawn(move || {
            access_log::write_all(&received, &emptied, &plan, out);
            let _ = write_last.send(());
        })
        .map_err(|error| start("cannot start a thread", &error))?;
    Ok((Some(Records { batches, empties, keep }), Some(written)))
}

/// The addresses of backends that are given by name. One that has none yet is left out of the
/// choice, and said so: it shall not keep the others from serving.
fn resolve(plan: &Plan) -> Vec<Vec<Option<Address>>> {
    let lookup = |target: &Target| match target {
        Target::Address(_) => None,
        Target::Host { name, port } => match (name.as_str(), *port).to_socket_addrs() {
            Ok(mut addresses) => addresses.next().map(Address::Ip),
            Err(error) => {
                log::warn!(
                    "backend {name}:{port} has no address, and gets no connections: {error}"
                );
                None
            }
        },
    };
    let pool = |pool: &crate::config::PoolPlan| {
        pool.backends.iter().map(|backend| lookup(&backend.target)).collect()
    };
    plan.pools.iter().map(pool).collect()
}

/// The same, in a thread: names can take minutes when DNS is dead, and a signal shall end the start.
/// `None` when one did.
fn resolve_unless_stopped(
    plan: &Arc<Plan>,
    signals: &Receiver<Signal>,
) -> Result<Option<Vec<Vec<Option<Address>>>>, Fatal> {
    let (answer, answered) = bounded(1);
    let asked = Arc::clone(plan);
    thread::Builder::new()
        .name("resolver".into())
        .spawn(move || answer.send(resolve(&asked)))
        .map_err(|error| start("cannot start a thread", &error))?;
    loop {
        select! {
            recv(answered) -> resolved => {
                return resolved.map(Some).map_err(|_| {
                    Fatal::Running("the resolver thread ended without an answer".to_owned())
                });
            }
            recv(signals) -> signal => {
                if let Ok(Signal::SIGTERM | Signal::SIGINT) = signal {
                    log::info!("stopped during the start");
                    return Ok(None);
                }
            }
        }
    }
}

/// The cores that this process may run on.
fn cores() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    {
        use nix::sched::{CpuSet, sched_getaffinity};
        use nix::unistd::Pid;

        if let Ok(allowed) = sched_getaffinity(Pid::from_raw(0)) {
            let is_set = |core: &usize| allowed.is_set(*core).unwrap_or(false);
            return (0..CpuSet::count()).filter(is_set).collect();
        }
    }
    (0..thread::available_parallelism().map_or(1, usize::from)).collect()
}

/// Keeps this thread on one core.
fn pin(core: usize) {
    #[cfg(target_os = "linux")]
    {
        use nix::sched::{CpuSet, sched_setaffinity};
        use nix::unistd::Pid;

        let mut set = CpuSet::new();
        let pinned = set.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
        if let Err(error) = pinned {
            log::warn!("pin_workers: cannot keep a worker on core {core}: {error}");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = core;
}

fn start(what: &str, error: &io::Error) -> Fatal {
    Fatal::Start(format!("{what}: {error}"))
}

/// Commands a worker may have waiting.
const COMMANDS: usize = 16;
/// Notices that may wait to be logged.
const NOTICES: usize = 64;
/// How long the last access records may take to be written.
const LAST_RECORDS: Duration = Duration::from_secs(2);
/// Batches of records that may wait for the writer.
const BATCHES: usize = 64;
