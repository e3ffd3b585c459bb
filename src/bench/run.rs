//! The threads of a run, and what they share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Job;
use super::clock::Clock;
use super::engine::Engine;
use super::report::Report;
use super::tally::Tally;
use crate::time::Moment;

/// A run under way. Dropping it stops it.
#[derive(Debug)]
pub struct Run {
    job: Job,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<Tally>>>,
    over: Receiver<()>,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Connections are being opened.
    Opening,
    /// It is being measured.
    Running,
    /// The measured time is over; what was started in it is not.
    Draining,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Where it stands.
    pub stage: Stage,
    /// How long it is being measured.
    pub elapsed: Duration,
    /// Operations that succeeded; of streams and held connections, the open ones.
    pub done: u64,
    /// Operations and attempts to connect that failed.
    pub failed: u64,
    /// Bytes sent and received.
    pub bytes: u64,
}

/// What the threads of a run and whoever started it share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    /// Threads that have not opened their connections yet.
    opening: AtomicU32,
    /// When the measured time began, in nanoseconds of the clock; `u64::MAX` before that.
    begins: AtomicU64,
    /// When it ended. Differs from the duration only after a stop.
    ended: AtomicU64,
    stop: AtomicBool,
    wakers: Vec<mio::Waker>,
    lives: Vec<Live>,
}

/// One thread's progress: it writes, others read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Live {
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) bytes: AtomicU64,
}

impl Shared {
    /// A thread has opened its connections. When all have, the measured time begins.
    pub(super) fn opened(&self) {
        // AcqRel: whoever is last has seen all the others arrive.
        if self.opening.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.begins.store(self.clock.now().nanos(), Ordering::Release);
            self.wake();
        }
    }

    /// When the measured time began, once it has.
    pub(super) fn begins(&self) -> Option<Moment> {
        let nanos = self.begins.load(Ordering::Acquire);
        (nanos < u64::MAX).then(|| Moment::from_nanos(nanos))
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn live(&self, thread: usize) -> &Live {
        &self.lives[thread]
    }

    fn stop(&self) {
        let now = self.clock.now().nanos();
        let set = Ordering::Relaxed; // read after the threads were joined
        // Only the first stop says when.
        let _ = self.ended.compare_exchange(u64::MAX, now, set, set);
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        for waker in &self.wakers {
            // It fails only when the kernel has no memory for an event; the thread then looks up at
            // its next deadline.
            let _ = waker.wake();
        }
    }
}

impl Run {
    /// Starts.
    ///
    /// # Errors
    /// When the system has no event queue, descriptor or thread to give.
    pub fn start(job: Job) -> io::Result<Run> {
        let clock = Clock::start();
        let mut engines = Vec::new();
        let mut wakers = Vec::new();
        for thread in 0..job.threads {
            let (engine, waker) = Engine::new(&job, thread, clock)?;
            engines.push(engine);
            wakers.push(waker);
        }
        let shared = Arc::new(Shared {
            clock,
            opening: AtomicU32::new(job.threads),
            begins: AtomicU64::new(u64::MAX),
            ended: AtomicU64::new(u64::MAX),
            stop: AtomicBool::new(false),
            wakers,
            lives: engines.iter().map(|_| Live::default()).collect(),
        });
        let (end, over): (Sender<()>, _) = bounded(0);
        let mut run = Run { job, shared, threads: Vec::new(), over };
        for engine in engines {
            let (shared, end) = (Arc::clone(&run.shared), end.clone());
            let work = move || {
                let tally = engine.run(&shared);
                if tally.is_err() {
                    shared.stop(); // the others would wait for this one
                }
                drop(end);
                tally
            };
            run.threads.push(thread::Builder::new().name("bench".into()).spawn(work)?);
        }
        Ok(run)
    }

    /// What it does.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// Never gets a message; disconnects when all threads are done.
    pub fn over(&self) -> &Receiver<()> {
        &self.over
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let begins = self.shared.begins();
        let elapsed = begins.map_or(Duration::ZERO, |begins| self.shared.clock.now() - begins);
        let sum = |of: fn(&Live) -> &AtomicU64| {
            self.shared.lives.iter().map(|live| of(live).load(Ordering::Relaxed)).sum()
        };
        Progress {
            stage: match begins {
                None => Stage::Opening,
                Some(_) if elapsed < self.job.duration => Stage::Running,
                Some(_) => Stage::Draining,
            },
            elapsed,
            done: sum(|live| &live.done),
            failed: sum(|live| &live.failed),
            bytes: sum(|live| &live.bytes),
        }
    }

    /// Ends it now. What is under way counts as unfinished.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// Waits for the end, and reports.
    ///
    /// # Errors
    /// When a thread could not go on: the system refused to wait for events.
    pub fn report(mut self) -> io::Result<Report> {
        let mut tally = Tally::default();
        for thread in self.threads.drain(..) {
            let part = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            tally.add(&part);
        }
        let (begins, ended) = (self.shared.begins(), self.shared.ended.load(Ordering::Relaxed));
        let measured = begins.map_or(Duration::ZERO, |begins| {
            let ends = Moment::from_nanos(ended).min(begins + self.job.duration);
            ends - begins
        });
        // A stop while draining takes nothing away from the measured time, and yet it cuts.
        let interrupted = ended < u64::MAX;
        Ok(Report { job: self.job.clone(), tally, measured, interrupted })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.stop();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
