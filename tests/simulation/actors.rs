//! Scripted clients and backends, and the stories they play.
//!
//! An actor has two tracks: it reads at its own pace (or stops), and it goes through its steps. It
//! closes when its steps are done and the other side has finished.

use std::ops::RangeInclusive;
use std::time::Duration;

use evenkeel::time::Moment;
use evenkeel::transfer::Manner;

use crate::dice::Dice;
use crate::kernel::{EndId, Event, Kernel};

/// One step of a script.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends so many bytes, at most `chunk` at a time with `pace` in between.
    Send { bytes: u64, chunk: u64, pace: Duration },
    /// Waits until so many bytes were received in all.
    Receive(u64),
    /// Waits for the FIN.
    Eof,
    /// Waits.
    Sleep(Duration),
    /// Shuts the write side.
    Finish,
    /// Closes by RST.
    Reset,
    /// Closes, whatever was not read.
    Close,
}

/// How an actor reads.
#[derive(Clone, Debug)]
pub struct Reading {
    /// At most so many bytes at a time,
    pub gulp: u64,
    /// with so much time in between,
    pub pace: Duration,
    /// beginning so long after the connection stands,
    pub after: Duration,
    /// and not more than so many.
    pub most: u64,
}

impl Reading {
    fn eager() -> Reading {
        Reading { gulp: u64::MAX, pace: Duration::ZERO, after: Duration::ZERO, most: u64::MAX }
    }
}

/// What one actor does.
#[derive(Clone, Debug)]
pub struct Script {
    pub steps: Vec<Step>,
    pub reading: Reading,
}

/// A scripted peer.
#[derive(Debug)]
pub struct Actor {
    pub end: EndId,
    pub name: &'static str,
    pub script: Script,
    pub received: u64,
    /// It has seen the FIN.
    pub eof: bool,
    /// It has closed, or was reset or refused.
    pub gone: bool,
    /// It was refused.
    pub refused: bool,
    /// It ended its connection by RST or without reading everything: nobody owes it anything.
    pub rude: bool,
    step: usize,
    sent: u64,
    write_at: Moment,
    read_at: Moment,
    up: bool,
}

impl Actor {
    pub fn new(end: EndId, name: &'static str, script: Script) -> Actor {
        Actor {
            end,
            name,
            script,
            received: 0,
            eof: false,
            gone: false,
            refused: false,
            rude: false,
            step: 0,
            sent: 0,
            write_at: Moment::ZERO,
            read_at: Moment::ZERO,
            up: false,
        }
    }

    /// Does whatever can be done now.
    pub fn act(&mut self, id: usize, kernel: &mut Kernel) {
        if self.gone {
            return;
        }
        if !self.up {
            self.up = true;
            self.read_at = kernel.now + self.script.reading.after;
            if self.read_at > kernel.now {
                kernel.at(self.read_at, Event::Actor { actor: id });
            }
        }
        self.read(id, kernel);
        if kernel.ends[self.end].reset {
            let (name, received) = (self.name, self.received);
            kernel.note(|| format!("  {name} {id} hears an RST after {received} bytes"));
            return self.leave(id, kernel, Manner::Graceful);
        }
        while !self.gone && self.advance(id, kernel) {
            self.step += 1;
            self.sent = 0;
        }
    }

    fn read(&mut self, id: usize, kernel: &mut Kernel) {
        let reading = &self.script.reading;
        loop {
            if kernel.now < self.read_at || self.eof {
                return;
            }
            let allowed = reading.gulp.min(reading.most.saturating_sub(self.received));
            let bytes = kernel.readable(self.end).min(allowed);
            if bytes > 0 {
                kernel.read(self.end, bytes);
                self.received += bytes;
            }
            if kernel.at_eof(self.end) {
                self.eof = true;
                let (name, received) = (self.name, self.received);
                kernel.note(|| format!("  {name} {id} sees FIN after {received} bytes"));
                return;
            }
            if bytes == 0 {
                return;
            }
            if reading.pace > Duration::ZERO {
                self.read_at = kernel.now + reading.pace;
                kernel.at(self.read_at, Event::Actor { actor: id });
            }
        }
    }

    /// Works on the current step; true when it is done.
    fn advance(&mut self, id: usize, kernel: &mut Kernel) -> bool {
        let Some(step) = self.script.steps.get(self.step) else {
            if self.eof {
                self.leave(id, kernel, Manner::Graceful);
            }
            return false;
        };
        match *step {
            Step::Send { bytes, chunk, pace } => loop {
                if kernel.now < self.write_at {
                    return false;
                }
                let now = chunk.min(bytes - self.sent).min(kernel.room(self.end));
                if now > 0 {
                    kernel.write(self.end, now);
                    self.sent += now;
                }
                if self.sent == bytes {
                    return true;
                }
                if now == 0 {
                    return false;
                }
                if pace > Duration::ZERO {
                    self.write_at = kernel.now + pace;
                    kernel.at(self.write_at, Event::Actor { actor: id });
                }
            },
            Step::Receive(bytes) => {
                if self.received < bytes && self.eof {
                    self.leave(id, kernel, Manner::Graceful);
                }
                self.received >= bytes
            }
            Step::Eof => self.eof,
            Step::Sleep(span) => {
                if self.sent == 0 {
                    // `sent` marks that the alarm is set.
                    self.sent = 1;
                    self.write_at = kernel.now + span;
                    kernel.at(self.write_at, Event::Actor { actor: id });
                }
                kernel.now >= self.write_at
            }
            Step::Finish => {
                let name = self.name;
                kernel.note(|| format!("  {name} {id} finishes"));
                kernel.finish(self.end);
                true
            }
            Step::Reset => {
                self.leave(id, kernel, Manner::Reset);
                false
            }
            Step::Close => {
                self.leave(id, kernel, Manner::Graceful);
                false
            }
        }
    }

    fn leave(&mut self, id: usize, kernel: &mut Kernel, manner: Manner) {
        self.gone = true;
        self.rude |= !self.eof || manner == Manner::Reset || kernel.ends[self.end].reset;
        let (name, received) = (self.name, self.received);
        kernel.note(|| format!("  {name} {id} leaves ({manner:?}) after {received} bytes"));
        kernel.close(self.end, manner);
    }
}

/// What a client and a backend do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    Requests,
    Greeting,
    Upload,
    Download,
    Both,
    ClientFinishesFirst,
    BackendFinishesFirst,
    Drip,
    LazyClient,
    LazyBackend,
    MuteBackend,
    MuteClient,
    InstantFin,
    InstantClose,
    InstantReset,
    GarbageFirst,
    BackendClosesUnread,
    ClientClosesUnread,
    EmptyClose,
    EmptyFinish,
    EmptyReset,
    ClientResets,
    BackendResets,
    BothFinish,
    EarlyData,
    DeafClient,
    DeafBackend,
    SilentClient,
    SilentBackend,
}

/// All of them.
pub const STORIES: [Story; 29] = [
    Story::Requests,
    Story::Greeting,
    Story::Upload,
    Story::Download,
    Story::Both,
    Story::ClientFinishesFirst,
    Story::BackendFinishesFirst,
    Story::Drip,
    Story::LazyClient,
    Story::LazyBackend,
    Story::MuteBackend,
    Story::MuteClient,
    Story::InstantFin,
    Story::InstantClose,
    Story::InstantReset,
    Story::GarbageFirst,
    Story::BackendClosesUnread,
    Story::ClientClosesUnread,
    Story::EmptyClose,
    Story::EmptyFinish,
    Story::EmptyReset,
    Story::ClientResets,
    Story::BackendResets,
    Story::BothFinish,
    Story::EarlyData,
    Story::DeafClient,
    Story::DeafBackend,
    Story::SilentClient,
    Story::SilentBackend,
];

/// A story with its numbers: what one listener's clients and backends play.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub story: Story,
    up: u64,
    down: u64,
    rounds: u64,
    pause: Duration,
}

impl Scenario {
    /// A scenario with random numbers (of bytes: some of `sizes`), small ones as likely as large ones.
    pub fn new(story: Story, sizes: &RangeInclusive<u64>, dice: &mut Dice) -> Scenario {
        Scenario {
            story,
            up: dice.spread(*sizes.start(), *sizes.end()),
            down: dice.spread(*sizes.start(), *sizes.end()),
            rounds: dice.spread(1, 12),
            pause: Duration::from_micros(dice.spread(10, 100_000_000)),
        }
    }

    /// The client's part.
    pub fn client(&self, dice: &mut Dice) -> Script {
        let (up, down, n) = (self.up, self.down, self.rounds);
        let mut reading = pace_of_reading(dice);
        let steps = match self.story {
            Story::Requests => {
                let mut steps = Vec::new();
                for round in 1..=n {
                    steps.extend([send(dice, up / n + 1), Step::Receive(round * (down / n + 1))]);
                }
                steps.push(Step::Finish);
                steps
            }
            Story::Greeting => vec![Step::Receive(down), send(dice, up), Step::Finish],
            Story::Upload | Story::EarlyData => vec![send(dice, up * 4), Step::Finish],
            Story::Download | Story::LazyClient => {
                if self.story == Story::LazyClient {
                    reading.after = Duration::from_secs(dice.between(1, 290));
                }
                vec![send(dice, up % 500 + 1), Step::Eof, Step::Finish]
            }
            Story::Both | Story::BothFinish | Story::ClientFinishesFirst => {
                vec![send(dice, up), Step::Finish]
            }
            Story::BackendFinishesFirst => {
                vec![Step::Eof, Step::Sleep(self.pause), send(dice, up * 2), Step::Finish]
            }
            Story::DeafClient => {
                reading.most = dice.below(down);
                vec![send(dice, up), Step::Sleep(AGES), Step::Close]
            }
            Story::DeafBackend => vec![send(dice, up * 3), Step::Finish],
            Story::SilentBackend => vec![send(dice, up), Step::Finish],
            Story::SilentClient => vec![send(dice, up), Step::Sleep(AGES), Step::Finish],
            Story::Drip => vec![drip(dice, n * 3), Step::Finish],
            Story::LazyBackend => vec![send(dice, up * 3), Step::Finish],
            Story::MuteBackend => vec![send(dice, up), Step::Eof, Step::Finish],
            Story::MuteClient => vec![Step::Eof, Step::Finish],
            Story::InstantFin | Story::InstantClose | Story::InstantReset => {
                vec![send(dice, up), Step::Finish]
            }
            Story::GarbageFirst => vec![send(dice, up), Step::Receive(down), Step::Finish],
            Story::BackendClosesUnread => vec![send(dice, up * 2), Step::Finish],
            Story::ClientClosesUnread => {
                reading.most = dice.below(down);
                vec![send(dice, up), Step::Receive(reading.most), Step::Close]
            }
            Story::EmptyClose => vec![Step::Close],
            Story::EmptyFinish => vec![Step::Finish],
            Story::EmptyReset => vec![Step::Reset],
            Story::ClientResets => {
                vec![send(dice, up), Step::Receive(dice.below(down)), Step::Reset]
            }
            Story::BackendResets => vec![send(dice, up), Step::Eof, Step::Finish],
        };
        Script { steps, reading }
    }

    /// The backend's part.
    pub fn backend(&self, dice: &mut Dice) -> Script {
        let (up, down, n) = (self.up, self.down, self.rounds);
        let mut reading = pace_of_reading(dice);
        let steps = match self.story {
            Story::Requests => {
                let mut steps = Vec::new();
                for round in 1..=n {
                    steps.extend([Step::Receive(round * (up / n + 1)), send(dice, down / n + 1)]);
                }
                steps.push(if dice.chance(512) { Step::Finish } else { Step::Eof });
                steps.push(Step::Finish);
                steps
            }
            Story::Greeting => vec![send(dice, down), Step::Receive(up), Step::Finish],
            Story::Upload | Story::EarlyData => {
                vec![Step::Eof, send(dice, down % 500 + 1), Step::Finish]
            }
            Story::Download => {
                vec![Step::Receive(up % 500 + 1), send(dice, down * 4), Step::Finish]
            }
            Story::LazyClient => vec![send(dice, down * 3), Step::Finish],
            Story::Both | Story::BothFinish => vec![send(dice, down), Step::Finish],
            Story::ClientFinishesFirst => {
                vec![Step::Eof, Step::Sleep(self.pause), send(dice, down * 2), Step::Finish]
            }
            Story::BackendFinishesFirst => vec![send(dice, down), Step::Finish],
            Story::DeafClient => {
                let end = if dice.chance(512) { Step::Finish } else { Step::Close };
                vec![send(dice, down * 3), Step::Sleep(self.pause), end]
            }
            Story::DeafBackend => {
                reading.most = dice.below(up);
                vec![send(dice, down), Step::Sleep(AGES), Step::Close]
            }
            Story::SilentBackend => vec![send(dice, down), Step::Sleep(AGES), Step::Finish],
            Story::SilentClient => vec![send(dice, down), Step::Finish],
            Story::Drip => vec![drip(dice, n * 2), Step::Finish],
            Story::LazyBackend => {
                reading.after = Duration::from_secs(dice.between(1, 290));
                vec![Step::Eof, send(dice, down), Step::Finish]
            }
            Story::MuteBackend => vec![Step::Eof, Step::Finish],
            Story::MuteClient => vec![Step::Eof, Step::Finish],
            Story::InstantFin => vec![Step::Finish],
            Story::InstantClose => vec![Step::Close],
            Story::InstantReset => vec![Step::Reset],
            Story::GarbageFirst => vec![send(dice, down), Step::Eof, Step::Finish],
            Story::BackendClosesUnread => {
                reading.most = dice.below(up);
                vec![Step::Receive(reading.most), send(dice, down), Step::Close]
            }
            Story::ClientClosesUnread => vec![send(dice, down), Step::Eof, Step::Finish],
            Story::EmptyClose | Story::EmptyFinish | Story::EmptyReset => {
                vec![send(dice, down), Step::Eof, Step::Finish]
            }
            Story::ClientResets => vec![send(dice, down), Step::Eof, Step::Finish],
            Story::BackendResets => {
                vec![Step::Receive(dice.below(up)), send(dice, down), Step::Reset]
            }
        };
        Script { steps, reading }
    }
}

/// Sends at once, in chunks, or in chunks with pauses.
fn send(dice: &mut Dice, bytes: u64) -> Step {
    let chunk = if dice.chance(512) { u64::MAX } else { dice.between(bytes / 8 + 1, bytes) };
    let pace = if dice.chance(700) { 0 } else { dice.spread(1, 2_000_000) };
    Step::Send { bytes, chunk, pace: Duration::from_micros(pace) }
}

/// Single bytes, slowly.
fn drip(dice: &mut Dice, bytes: u64) -> Step {
    Step::Send { bytes, chunk: 1, pace: Duration::from_millis(dice.between(1, 2000)) }
}

fn pace_of_reading(dice: &mut Dice) -> Reading {
    if dice.chance(700) {
        return Reading::eager();
    }
    Reading {
        gulp: dice.spread(2_000, 64_000),
        pace: Duration::from_micros(dice.spread(10, 1_000_000)),
        ..Reading::eager()
    }
}

/// Longer than any timeout.
const AGES: Duration = Duration::from_secs(8 * 3600);
