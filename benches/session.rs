//! The session machine alone: events in, actions out, no worker, no poller.
//!
//! ```text
//! cargo bench --bench session -- --quick
//! ```

use std::num::NonZeroU32;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use evenkeel::session::{Action, Backoff, Context, Event, Limits, Policy, Session};
use evenkeel::time::Moment;
use evenkeel::transfer::{Condition, Lane, Parcel, Sent, Side};

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    connect_total: Duration::from_secs(10),
    idle: Some(Duration::from_secs(3600)),
    half_close: Some(Duration::from_secs(300)),
    lifetime: None,
    user_timeout: Some(Duration::from_secs(120)),
    attempts: 3,
    backoff: Backoff {
        base: Duration::from_millis(50),
        multiplier: 1.5,
        max: Duration::from_secs(5),
    },
    policy: Policy::Auto,
    is_measured: false,
};

/// A session and a world in which everything goes well and at once.
struct Play {
    session: Session,
    now: Moment,
    actions: Vec<Action>,
    /// Actions so far.
    count: u64,
}

impl Play {
    fn new() -> Play {
        let session = Session::new(Moment::ZERO, Policy::Auto);
        Play { session, now: Moment::ZERO, actions: Vec::with_capacity(16), count: 0 }
    }

    /// Tells an event and answers whatever the session wants, until it wants nothing more but
    /// bytes.
    fn tell(&mut self, event: Event) {
        self.now = self.now + Duration::from_micros(10);
        let mut next = Some(event);
        let mut at = 0;
        while let Some(event) = next.take() {
            let cx = Context { now: self.now, limits: &LIMITS, dice: 7 };
            self.session.handle(cx, event, &mut self.actions);
            while next.is_none() && at < self.actions.len() {
                let action = std::mem::replace(&mut self.actions[at], Action::Settle);
                at += 1;
                self.count += 1;
                next = answer(action);
            }
        }
        self.actions.clear();
    }
}

/// What the world answers at once.
fn answer(action: Action) -> Option<Event> {
    match action {
        Action::Choose => Some(Event::Chosen { again: false }),
        Action::Dial { first } => Some(Event::Dialed { first: first.map(taken) }),
        Action::Push { side, parcel, .. } => Some(Event::Pushed { side, sent: taken(parcel) }),
        Action::Shut { side } => Some(Event::Shut { side, failure: None }),
        Action::Close { side, .. } => Some(Event::Closed { side }),
        Action::Look { side } => {
            let condition = Condition { unacknowledged: Some(0), ..Condition::default() };
            Some(Event::Looked { side, condition })
        }
        Action::Pull { .. }
        | Action::CancelDial
        | Action::Release(_)
        | Action::Settle
        | Action::NoteAnswer { .. }
        | Action::Retire => None,
    }
}

fn taken(parcel: Parcel) -> Sent {
    Sent { bytes: parcel.len(), rest: None }
}

fn pulled(side: Side, bytes: u32) -> Event {
    let bytes = NonZeroU32::new(bytes).expect("not empty");
    Event::Pulled { side, parcel: Parcel::new(Lane::Buffer, 0, 0, bytes), last: false }
}

/// From the accept to the end; how many actions that took.
fn connection() -> u64 {
    let mut play = Play::new();
    play.tell(Event::Accepted);
    play.tell(pulled(Side::Client, 64));
    play.tell(pulled(Side::Backend, 100));
    play.tell(Event::Ended { side: Side::Client });
    play.tell(Event::Ended { side: Side::Backend });
    assert!(play.session.end().is_some(), "it has ended");
    play.count
}

fn sessions(criterion: &mut Criterion) {
    assert_eq!(connection(), ACTIONS_PER_CONNECTION, "actions of a whole connection");
    let mut group = criterion.benchmark_group("session");
    group.throughput(Throughput::Elements(1));
    group.bench_function("connection", |bencher| bencher.iter(connection));
    let mut play = Play::new();
    play.tell(Event::Accepted);
    group.bench_function("request", |bencher| {
        bencher.iter(|| {
            play.tell(pulled(Side::Client, 64));
            play.tell(pulled(Side::Backend, 100));
            play.session.deadline(&LIMITS)
        });
    });
    group.finish();
}

/// Pull, choose, dial, pull; push, pull; push, pull; shut; close, close; retire. Each one more is an
/// operation more for every connection.
const ACTIONS_PER_CONNECTION: u64 = 12;

criterion_group!(benches, sessions);
criterion_main!(benches);
