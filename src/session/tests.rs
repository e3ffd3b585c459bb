//! The machine against the clock, event by event. What goes wrong between the events is the
//! simulation's to find.

use std::num::NonZeroU32;

use super::*;

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    connect_total: Duration::from_secs(10),
    idle: Some(Duration::from_secs(3600)),
    half_close: Some(Duration::from_secs(300)),
    lifetime: None,
    user_timeout: None,
    attempts: 3,
    backoff: Backoff {
        base: Duration::from_millis(50),
        multiplier: 1.5,
        max: Duration::from_secs(5),
    },
    policy: Policy::Auto,
    is_measured: false,
};

/// A session, its clock, and what it wants done.
struct Bench {
    session: Session,
    now: Moment,
    limits: Limits,
}

impl Bench {
    fn new() -> Bench {
        let session = Session::new(Moment::ZERO, Policy::Auto);
        Bench { session, now: Moment::ZERO, limits: LIMITS }
    }

    /// One whose backend has been reached.
    fn relaying() -> Bench {
        let mut bench = Bench::new();
        bench.tell(Event::Accepted);
        bench.tell(Event::Chosen { again: false });
        bench.tell(Event::Dialed { first: None });
        bench
    }

    fn tell(&mut self, event: Event) -> Vec<String> {
        let mut actions = Vec::new();
        let cx = Context { now: self.now, limits: &self.limits, dice: u32::MAX };
        self.session.handle(cx, event, &mut actions);
        actions.iter().map(shown).collect()
    }

    fn pass(&mut self, span: Duration) -> Vec<String> {
        self.now = self.now + span;
        self.tell(Event::Deadline)
    }

    fn deadline(&self) -> Duration {
        self.session.deadline(&self.limits) - self.now
    }
}

fn shown(action: &Action) -> String {
    match action {
        Action::Dial { first } => {
            format!("Dial {}", first.as_ref().map_or(0, |parcel| parcel.len().get()))
        }
        Action::Pull { side, lane } => format!("Pull {side:?} {lane:?}"),
        Action::Push { side, parcel, last } => {
            format!("Push {side:?} {}{}", parcel.len(), if *last { " last" } else { "" })
        }
        Action::Shut { side } => format!("Shut {side:?}"),
        Action::Close { side, manner } => format!("Close {side:?} {manner:?}"),
        Action::Release(parcel) => format!("Release {}", parcel.len()),
        Action::Look { side } => format!("Look {side:?}"),
        Action::NoteAnswer { took } => format!("NoteAnswer {took:?}"),
        Action::Choose | Action::CancelDial | Action::Settle | Action::Retire => {
            format!("{action:?}")
        }
    }
}

fn parcel(len: u32) -> Parcel {
    Parcel::new(Lane::Buffer, 0, 0, NonZeroU32::new(len).expect("not empty"))
}

fn pulled(side: Side, len: u32, last: bool) -> Event {
    Event::Pulled { side, parcel: parcel(len), last }
}

fn pushed(side: Side, len: u32, rest: u32) -> Event {
    let bytes = NonZeroU32::new(len).expect("not empty");
    Event::Pushed { side, sent: Sent { bytes, rest: (rest > 0).then(|| parcel(rest)) } }
}

fn looked(side: Side, unacknowledged: u32) -> Event {
    let unacknowledged = Some(unacknowledged);
    Event::Looked { side, condition: Condition { unacknowledged, ..Condition::default() } }
}

#[test]
fn an_answer_is_timed_from_what_it_answers_and_only_where_somebody_asks() {
    for is_measured in [true, false] {
        let mut bench = Bench::relaying();
        bench.limits.is_measured = is_measured;
        bench.pass(Duration::from_secs(7));
        bench.tell(pulled(Side::Client, 70, false));
        bench.tell(pushed(Side::Backend, 70, 0));
        bench.now = bench.now + Duration::from_millis(30);
        let actions = bench.tell(pulled(Side::Backend, 5, false));
        let noted = actions.contains(&"NoteAnswer 30ms".to_owned());
        assert_eq!(noted, is_measured, "{actions:?}");
        bench.tell(pushed(Side::Client, 5, 0));
        let again = bench.tell(pulled(Side::Backend, 5, false));
        assert_eq!(again, ["Push Client 5"], "one answer is enough");
    }
}

#[test]
fn the_first_parcel_goes_with_the_dial_and_a_retry_replays_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.tell(Event::Accepted), ["Pull Client Buffer", "Choose"]);
    assert!(bench.tell(pulled(Side::Client, 70, false)).is_empty(), "it waits for a backend");
    assert_eq!(bench.tell(Event::Chosen { again: false }), ["Dial 70"]);
    let refused = Event::DialFailed { failure: Some(Failure::Refused), first: Some(parcel(70)) };
    assert_eq!(bench.tell(refused), ["Choose"]);
    assert_eq!(bench.tell(Event::Chosen { again: false }), ["Dial 70"]);
    let sent = Sent { bytes: NonZeroU32::new(70).expect("70"), rest: None };
    let actions = bench.tell(Event::Dialed { first: Some(sent) });
    assert_eq!(actions, ["Pull Client Buffer", "Pull Backend Buffer"]);
    assert_eq!((bench.session.attempts(), bench.session.bytes()), (2, (70, 0)));
}

#[test]
fn when_all_attempts_are_refused_the_client_is_reset() {
    let mut bench = Bench::new();
    bench.tell(Event::Accepted);
    for _ in 0..2 {
        bench.tell(Event::Chosen { again: false });
        let refused = Event::DialFailed { failure: Some(Failure::Refused), first: None };
        assert_eq!(bench.tell(refused), ["Choose"]);
    }
    bench.tell(Event::Chosen { again: false });
    let refused = Event::DialFailed { failure: Some(Failure::Refused), first: None };
    assert_eq!(bench.tell(refused), ["Close Client Reset"]);
    assert_eq!(bench.tell(Event::Closed { side: Side::Client }), ["Retire"]);
    assert_eq!(bench.session.end(), Some(End::BackendRefused));
}

#[test]
fn a_backend_tried_before_is_tried_again_after_a_pause() {
    let mut bench = Bench::new();
    bench.tell(Event::Accepted);
    bench.tell(Event::Chosen { again: false });
    bench.tell(Event::DialFailed { failure: Some(Failure::Refused), first: None });
    assert!(bench.tell(Event::Chosen { again: true }).is_empty());
    assert_eq!(bench.deadline(), LIMITS.backoff.base, "the longest pause, by these dice");
    assert_eq!(bench.pass(LIMITS.backoff.base), ["Dial 0"]);
}

#[test]
fn a_connect_that_takes_too_long_is_cancelled_and_all_of_them_share_a_limit() {
    let mut bench = Bench::new();
    bench.tell(Event::Accepted);
    bench.tell(Event::Chosen { again: false });
    assert_eq!(bench.deadline(), LIMITS.connect);
    assert_eq!(bench.pass(LIMITS.connect), ["CancelDial"]);
    let cancelled = || Event::DialFailed { failure: None, first: None };
    assert_eq!(bench.tell(cancelled()), ["Choose"]);
    bench.tell(Event::Chosen { again: false });
    assert_eq!(bench.pass(LIMITS.connect), ["CancelDial"]);
    assert_eq!(bench.tell(cancelled()), ["Close Client Reset"], "ten seconds are over");
    assert_eq!(bench.session.end(), Some(End::ConnectTimeout));
}

#[test]
fn a_shortage_of_ours_costs_no_attempt_and_ends_as_our_own() {
    let mut bench = Bench::new();
    bench.tell(Event::Accepted);
    let short = crate::transfer::Shortage::Descriptors;
    let mut dials = 0;
    loop {
        let actions = bench.tell(Event::Chosen { again: false });
        if actions.is_empty() {
            break;
        }
        dials += 1;
        let failure = Some(Failure::Shortage(short));
        if !bench.tell(Event::DialFailed { failure, first: None }).is_empty() {
            break;
        }
        assert_eq!(bench.session.attempts(), 0);
        bench.pass(bench.deadline());
    }
    assert!(dials > 100, "it is tried until the time is over, {dials} times");
    assert_eq!(bench.session.end(), Some(End::LocalResource));
}

#[test]
fn t1_half_close_passes_fin_on_and_the_other_direction_goes_on() {
    let mut bench = Bench::relaying();
    assert_eq!(bench.tell(Event::Ended { side: Side::Client }), ["Shut Backend"]);
    assert!(bench.tell(Event::Shut { side: Side::Backend, failure: None }).is_empty());
    assert_eq!(bench.tell(pulled(Side::Backend, 10, false)), ["Push Client 10"]);
    assert_eq!(bench.tell(pushed(Side::Client, 10, 0)), ["Pull Backend Buffer"]);
    let ends = bench.tell(Event::Ended { side: Side::Backend });
    assert_eq!(ends, ["Close Client Graceful", "Close Backend Graceful"]);
    assert_eq!(bench.session.end(), Some(End::Ok));
    assert!(bench.session.was_half_closed());
}

#[test]
fn t7_fin_follows_the_last_byte_and_not_before() {
    let mut bench = Bench::relaying();
    assert_eq!(bench.tell(pulled(Side::Client, 9, true)), ["Push Backend 9 last"]);
    assert_eq!(bench.tell(pushed(Side::Backend, 4, 5)), ["Push Backend 5 last"]);
    assert_eq!(bench.tell(pushed(Side::Backend, 5, 0)), ["Shut Backend"]);
}

#[test]
fn t4_a_reset_client_resets_the_backend_once_it_has_everything() {
    let mut bench = Bench::relaying();
    let reset = Event::PullFailed { side: Side::Client, failure: Failure::Reset };
    assert_eq!(bench.tell(reset), ["Close Client Reset", "Look Backend"]);
    assert!(bench.tell(looked(Side::Backend, 100)).is_empty(), "100 bytes are on their way");
    assert_eq!(bench.pass(Duration::from_millis(5)), ["Look Backend"]);
    assert_eq!(bench.tell(looked(Side::Backend, 0)), ["Close Backend Reset"]);
    assert_eq!(bench.session.end(), Some(End::ClientReset));
}

#[test]
fn t5_a_reset_backend_does_not_cut_what_was_read() {
    let mut bench = Bench::relaying();
    bench.tell(pulled(Side::Client, 1, false));
    assert_eq!(bench.tell(pulled(Side::Backend, 50, false)), ["Push Client 50"]);
    let reset = Event::PushFailed { side: Side::Backend, failure: Failure::Reset };
    assert!(bench.tell(reset).is_empty(), "the client still gets its bytes");
    assert_eq!(bench.tell(pushed(Side::Client, 50, 0)), ["Pull Backend Buffer"]);
    let reset = Event::PullFailed { side: Side::Backend, failure: Failure::Reset };
    assert_eq!(bench.tell(reset), ["Close Backend Reset", "Look Client"]);
    assert_eq!(bench.tell(looked(Side::Client, 0)), ["Close Client Reset"]);
    assert_eq!(bench.session.end(), Some(End::BackendReset));
}

#[test]
fn rst_after_fin_of_the_same_peer_is_passed_on_as_fin() {
    let mut bench = Bench::relaying();
    bench.tell(pulled(Side::Client, 1, false));
    bench.tell(Event::Ended { side: Side::Backend });
    bench.tell(Event::Shut { side: Side::Client, failure: None });
    let closed = Event::PushFailed { side: Side::Backend, failure: Failure::Closed };
    let actions = bench.tell(closed);
    assert_eq!(actions, ["Close Backend Graceful", "Pull Client Buffer", "Look Client"]);
    assert_eq!(bench.tell(looked(Side::Client, 0)), ["Close Client Graceful"]);
}

#[test]
fn what_settles_without_progress_is_over_after_the_grace() {
    let mut bench = Bench::relaying();
    bench.tell(Event::PullFailed { side: Side::Client, failure: Failure::Reset });
    bench.tell(looked(Side::Backend, 100));
    bench.now = bench.now + GRACE / 2;
    assert!(bench.tell(looked(Side::Backend, 60)).is_empty(), "some progress renews it");
    bench.now = bench.now + GRACE / 2;
    assert!(bench.tell(looked(Side::Backend, 60)).is_empty());
    bench.now = bench.now + GRACE / 2;
    assert_eq!(bench.tell(looked(Side::Backend, 60)), ["Close Backend Reset"]);
}

#[test]
fn b4_a_backend_that_resets_before_any_byte_is_as_good_as_one_that_refused() {
    let mut bench = Bench::relaying();
    let reset = Event::PullFailed { side: Side::Backend, failure: Failure::Reset };
    assert_eq!(bench.tell(reset), ["Close Backend Graceful"]);
    assert_eq!(bench.tell(Event::Closed { side: Side::Backend }), ["Choose"]);
    assert_eq!(bench.tell(Event::Chosen { again: false }), ["Dial 0"]);
    bench.tell(pulled(Side::Client, 3, false));
    assert_eq!(
        bench.tell(Event::Dialed { first: None }),
        ["Push Backend 3", "Pull Backend Buffer"]
    );
}

#[test]
fn t15_silence_after_half_close_ends_and_says_whose_it_was() {
    let mut bench = Bench::relaying();
    bench.tell(Event::Ended { side: Side::Client });
    bench.tell(Event::Shut { side: Side::Backend, failure: None });
    assert_eq!(bench.pass(SETTLE_AGE), ["Settle"]);
    let left = Duration::from_secs(300) - SETTLE_AGE;
    assert_eq!(bench.deadline(), left);
    assert!(bench.pass(left - Duration::from_millis(1)).is_empty());
    let ends = bench.pass(Duration::from_millis(1));
    assert_eq!(
        ends,
        ["Close Client Reset", "Close Backend Reset"],
        "nobody shall take it for whole"
    );
    assert_eq!(bench.session.end(), Some(End::BackendIdle));
}

#[test]
fn a_byte_either_way_puts_the_idle_limit_off() {
    let mut bench = Bench::relaying();
    bench.pass(SETTLE_AGE);
    bench.now = bench.now + Duration::from_secs(3000);
    bench.tell(pulled(Side::Backend, 1, false));
    bench.tell(pushed(Side::Client, 1, 0));
    assert_eq!(bench.deadline(), Duration::from_secs(3600));
    assert!(bench.pass(Duration::from_secs(3599)).is_empty());
    assert!(!bench.pass(Duration::from_secs(1)).is_empty());
    assert_eq!(bench.session.end(), Some(End::ClientIdle), "the backend spoke last");
}

#[test]
fn a_connection_cut_with_bytes_in_hand_is_reset() {
    let mut bench = Bench::relaying();
    bench.tell(pulled(Side::Backend, 5, false));
    let cut = bench.tell(Event::Kill(End::Drain));
    assert_eq!(cut, ["Close Client Reset", "Close Backend Reset"]);
    assert_eq!(bench.session.end(), Some(End::Drain));
}

#[test]
fn the_end_of_a_drain_is_fin_for_the_quiet_and_rst_for_the_busy() {
    let mut bench = Bench::relaying();
    bench.tell(pulled(Side::Backend, 5, false));
    bench.tell(pushed(Side::Client, 5, 0));
    let busy = bench.tell(Event::Kill(End::Drain));
    assert_eq!(busy, ["Close Client Reset", "Close Backend Reset"], "between two bursts");
    let mut bench = Bench::relaying();
    bench.now = bench.now + QUIET;
    let quiet = bench.tell(Event::Kill(End::Drain));
    assert_eq!(quiet, ["Close Client Graceful", "Close Backend Graceful"]);
}

#[test]
fn b4_a_redial_after_a_long_silence_has_its_full_time() {
    let mut bench = Bench::relaying();
    bench.pass(Duration::from_secs(60));
    let reset = Event::PullFailed { side: Side::Backend, failure: Failure::Reset };
    bench.tell(reset);
    bench.tell(Event::Closed { side: Side::Backend });
    assert_eq!(bench.tell(Event::Chosen { again: false }), ["Dial 0"]);
    assert_eq!(bench.deadline(), LIMITS.connect);
    bench.tell(Event::Dialed { first: None });
    assert_eq!(bench.pass(SETTLE_AGE), ["Settle"], "the new connection needs keep-alive too");
}

#[test]
fn a_stalled_session_looks_whether_its_source_is_still_there() {
    let mut bench = Bench::relaying();
    bench.pass(SETTLE_AGE);
    bench.tell(pulled(Side::Backend, 5, false));
    assert_eq!(bench.pass(Duration::from_secs(1)), ["Look Backend"]);
    let condition = Condition { broken: Some(Failure::Reset), ..Condition::default() };
    let broken = Event::Looked { side: Side::Backend, condition };
    assert!(bench.tell(broken).is_empty(), "the client has its bytes coming");
    assert!(bench.deadline() <= STALL_CHECK.min(GRACE), "it goes on looking");
    bench.now = bench.now + GRACE;
    let cut = bench.tell(Event::Deadline);
    assert_eq!(cut, ["Close Client Reset", "Close Backend Reset"]);
    assert_eq!(bench.session.end(), Some(End::BackendReset));
}

#[test]
fn t14_a_side_that_leaves_bytes_unanswered_for_the_user_timeout_has_vanished() {
    let timeout = Duration::from_secs(120);
    let mut bench = Bench::relaying();
    bench.limits.user_timeout = Some(timeout);
    bench.pass(SETTLE_AGE);
    bench.tell(pulled(Side::Backend, 5, false));
    bench.tell(pushed(Side::Client, 5, 0));
    let look = |mute| Event::Looked {
        side: Side::Client,
        condition: Condition { broken: None, unacknowledged: Some(5), mute },
    };
    // T10: one that answers and does not read lives on.
    for _ in 0..20 {
        assert_eq!(bench.pass(timeout / 4), ["Look Client", "Look Backend"]);
        assert!(bench.tell(look(false)).is_empty());
    }
    for _ in 0..4 {
        assert_eq!(bench.pass(timeout / 4), ["Look Client", "Look Backend"]);
        assert!(bench.tell(look(true)).is_empty());
    }
    assert_eq!(bench.pass(timeout / 4), ["Look Client", "Look Backend"]);
    assert_eq!(bench.tell(look(true)), ["Close Client Reset", "Look Backend"]);
    assert_eq!(bench.session.end(), Some(End::ClientIdle));
}

#[test]
fn what_is_acknowledged_is_not_looked_at_again() {
    let mut bench = Bench::relaying();
    bench.limits.user_timeout = Some(Duration::from_secs(120));
    bench.pass(SETTLE_AGE);
    bench.tell(pulled(Side::Backend, 5, false));
    bench.tell(pushed(Side::Client, 5, 0));
    assert_eq!(bench.pass(Duration::from_secs(30)), ["Look Client", "Look Backend"]);
    bench.tell(looked(Side::Client, 0));
    bench.tell(looked(Side::Backend, 0));
    assert!(bench.deadline() > Duration::from_secs(3000), "only the idle limit is left");
}

#[test]
fn a_client_that_resets_with_its_bytes_in_our_hands_is_noticed_while_dialing() {
    let mut bench = Bench::new();
    bench.tell(Event::Accepted);
    bench.tell(Event::Chosen { again: false });
    bench.tell(pulled(Side::Client, 5, false));
    assert_eq!(bench.pass(Duration::from_secs(1)), ["Look Client"]);
    let condition = Condition { broken: Some(Failure::Reset), ..Condition::default() };
    let broken = Event::Looked { side: Side::Client, condition };
    assert_eq!(bench.tell(broken), ["Release 5", "Close Client Reset", "CancelDial"]);
    assert_eq!(bench.session.end(), Some(End::ClientAbort));
}

#[test]
fn a_client_gone_while_dialing_takes_the_dial_with_it() {
    let mut bench = Bench::new();
    bench.tell(Event::Accepted);
    bench.tell(Event::Chosen { again: false });
    let reset = Event::PullFailed { side: Side::Client, failure: Failure::Reset };
    assert_eq!(bench.tell(reset), ["Close Client Reset", "CancelDial"]);
    assert!(bench.tell(Event::Closed { side: Side::Client }).is_empty());
    // The cancel came too late.
    assert_eq!(bench.tell(Event::Dialed { first: None }), ["Close Backend Reset"]);
    assert_eq!(bench.tell(Event::Closed { side: Side::Backend }), ["Retire"]);
    assert_eq!(bench.session.end(), Some(End::ClientAbort));
}

#[test]
fn a_dial_that_cannot_be_cancelled_any_more_delivers_before_it_resets() {
    let mut bench = Bench::new();
    bench.tell(Event::Accepted);
    bench.tell(pulled(Side::Client, 5, false));
    bench.tell(Event::Chosen { again: false });
    bench.pass(Duration::from_secs(1));
    let condition = Condition { broken: Some(Failure::Reset), ..Condition::default() };
    bench.tell(Event::Looked { side: Side::Client, condition });
    bench.tell(Event::Closed { side: Side::Client });
    let sent = Sent { bytes: NonZeroU32::new(2).expect("2"), rest: Some(parcel(3)) };
    assert_eq!(bench.tell(Event::Dialed { first: Some(sent) }), ["Release 3", "Look Backend"]);
    assert_eq!(bench.tell(looked(Side::Backend, 0)), ["Close Backend Reset"]);
    assert_eq!(bench.tell(Event::Closed { side: Side::Backend }), ["Retire"]);
}

#[test]
fn a_life_of_limited_length_is_cut_by_its_share_of_the_jitter() {
    let mut bench = Bench::relaying();
    let (longest, jitter) = (Duration::from_secs(3000), Duration::from_secs(300));
    bench.limits.lifetime = Some(Lifetime { longest, jitter });
    bench.pass(SETTLE_AGE);
    // The dice of the bench are as high as they get.
    let left = bench.deadline();
    assert!(left < longest - SETTLE_AGE - jitter + Duration::from_millis(5), "{left:?}");
    assert!(left >= longest - SETTLE_AGE - jitter, "{left:?}");
    assert!(bench.pass(left - Duration::from_millis(1)).is_empty());
    let quiet = bench.pass(Duration::from_millis(1));
    assert_eq!(quiet, ["Close Client Graceful", "Close Backend Graceful"]);
    assert_eq!(bench.session.end(), Some(End::Lifetime));
    assert_eq!(Lifetime { longest, jitter }.of(0), longest);
}

#[test]
fn what_is_reported_of_a_beginning_is_measured_from_the_accept() {
    let mut bench = Bench::new();
    bench.tell(Event::Accepted);
    bench.tell(Event::Chosen { again: false });
    assert_eq!((bench.session.connected(), bench.session.answered()), (None, None));
    bench.now = bench.now + Duration::from_millis(7);
    bench.tell(Event::Dialed { first: None });
    bench.now = bench.now + Duration::from_millis(5);
    bench.tell(pulled(Side::Backend, 1, false));
    bench.tell(pushed(Side::Client, 1, 0));
    bench.now = bench.now + Duration::from_secs(9);
    bench.tell(pulled(Side::Backend, 1, false));
    let connected = bench.session.connected().map(|span| span.as_micros());
    let answered = bench.session.answered().map(|span| span.as_micros());
    assert_eq!((connected, answered), (Some(7_000), Some(12_000)));
}
