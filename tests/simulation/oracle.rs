//! What must hold, whatever goes wrong.
//!
//! *Safety* is watched as it happens: [`on_push`], [`on_finish`], [`on_reset`]. *Patience* and
//! *liveness* are judged when the worker closes a connection ([`on_close`]), and [`at_rest`] counts
//! what is left when everybody has gone home.
//!
//! Bytes are not compared but traced: every parcel knows of which stream and offset its bytes are,
//! so a wrong byte is found when it is pushed.
//!
//! # Planted bugs
//!
//! An oracle is trusted once it has caught something. Each line is a bug put into the production
//! code by hand and taken out again, the first seed that showed it in the sweep, and what said so.
//! (Seeds change with the dice; the kinds do not.)
//!
//! In `session`:
//! - the rest of a partial push is forgotten: seed 3, `on_push` and `on_finish`
//! - an RST is passed on as FIN: seed 1, `on_finish`
//! - a backend that took bytes is replaced by another: seed 3, `pair` (bytes of one client reach
//!   two backends)
//! - pushes do not count against idleness: seed 121, `on_close` (patience)
//! - a FIN closes both directions: seed 2, `on_close` (patience)
//! - the half-close limit and the idle limit are mixed up: seed 18, `on_close` (patience)
//! - no half-close limit: seed 10, `on_news` (liveness)
//! - a refused push resets both sides at once: seed 17, `on_reset`
//! - what is owed is not waited for before an RST: seed 1, `on_reset`
//! - the wait for the last bytes is not renewed by acknowledgements: about one in 100,000
//!   sessions, `on_reset`
//! - the first parcel is kept when the client leaves: seed 1, `at_rest` (a parcel leaked)
//! - the rest of it is kept when a cancelled dial succeeds: seed 759, `at_rest`
//!
//! In `worker`:
//! - a retired session still counts against its backend, or keeps its place: seed 1, the books in
//!   `driver`
//! - the first parcel is lost when the last local port is: seed 34, an invariant of the session
//! - a cancelled dial goes on: seed 3, `on_close` (liveness)
//! - an action put off to the next turn is forgotten: seed 2186, `on_close` (liveness)
//! - timers stop after the first byte: seed 6, the poller (nothing will ever happen)

use std::time::Duration;

use evenkeel::poller::Gauges;
use evenkeel::time::Moment;
use evenkeel::token::Token;

use crate::kernel::{App, EndId, Kernel, Source, across};
use crate::world::World;

/// The poller uses an end: its session is known by the token.
pub fn on_use(kernel: &mut Kernel, end: EndId, token: Token) {
    if !kernel.ends[end].used {
        // Until there is a place for it, a connection may wait as long as it takes.
        kernel.ends[end].used = true;
        kernel.ends[end].since = kernel.now;
    }
    let sides = kernel.owners.entry((token.slot(), token.generation())).or_default();
    // What the poller opened has the even end.
    sides[usize::from(end.is_multiple_of(2))] = Some(end);
    let sides = *sides;
    // A push or a first parcel may have told already.
    if let ([Some(client), Some(backend)], None) = (sides, kernel.ends[end].partner) {
        pair(kernel, client, backend);
    }
}

/// Bytes are about to be pushed: they must go on where the last ones ended.
pub fn on_push(kernel: &mut Kernel, end: EndId, source: Source, bytes: u64) {
    let at = kernel.ends[end].written;
    if kernel.judged
        && let Source::Stream(stream, offset) = source
    {
        let expected = relayed(kernel, end);
        if offset != expected {
            kernel.verdict(format!(
                "safety: end {end} is sent bytes of stream {stream} from {offset}, not {expected}"
            ));
        }
        pair(kernel, end, across(stream));
        if kernel.ends[end].partner != Some(across(stream)) {
            kernel.verdict(format!(
                "safety: end {end} is sent bytes of stream {stream}, not of its partner's, {:?}",
                kernel.ends[end].partner
            ));
        }
    }
    let goes_on = match (kernel.ends[end].pieces.last(), &source) {
        (Some((from, Source::Stream(last, start))), Source::Stream(stream, offset)) => {
            last == stream && start + at - from == *offset
        }
        _ => false,
    };
    if !goes_on {
        let source = match source {
            Source::Composed(all) => Source::Composed(all[..bytes as usize].to_vec()),
            stream => stream,
        };
        kernel.ends[end].pieces.push((at, source));
    }
}

/// The worker sends a FIN: only after the last byte of a peer that sent one.
pub fn on_finish(kernel: &mut Kernel, end: EndId) {
    let Some(partner) = kernel.ends[end].partner else { return };
    let source = &kernel.ends[across(partner)];
    let (finished, written) = (source.fin_delivered, source.written);
    let relayed = relayed(kernel, end);
    if finished && relayed == written || may_cut(kernel, end) {
        return;
    }
    kernel.verdict(format!(
        "safety: FIN from end {end} after {relayed} of {written} bytes (source finished: {finished})"
    ));
}

/// The worker's kernel sends an RST: never past bytes that are still owed.
pub fn on_reset(kernel: &mut Kernel, end: EndId) {
    let Some(partner) = kernel.ends[end].partner else { return };
    let (us, peer) = (&kernel.ends[end], &kernel.ends[across(end)]);
    let source = &kernel.ends[across(partner)];
    // What was delivered with a FIN behind it can be pulled even if an RST came later.
    let clean = source.fin_delivered;
    // An RST may overtake a mere FIN: without us the peer would have seen both, too. Of a source
    // that broke, what was pushed already is owed all the same.
    let owed = clean && relayed(kernel, end) < source.written || us.delivered < us.written;
    let listening = !peer.closed && !us.reset;
    // The session counts from what it did or saw, which may be a little earlier.
    let patient = kernel.now - us.acknowledged + Duration::from_secs(1) >= kernel.limits.grace;
    if owed && listening && !may_cut(kernel, end) && !patient {
        let (delivered, written) = (us.delivered, source.written);
        kernel.verdict(format!(
            "safety: RST from end {end} past undelivered bytes: {delivered} of {written} arrived, \
             FIN arrived: {}",
            kernel.ends[end].fin_delivered
        ));
    }
}

/// Something happens to an end, or is done about it: not too long after the last time (liveness).
pub fn on_news(kernel: &mut Kernel, end: EndId) {
    let (quiet_for, Some(partner)) = (quiet(kernel, end), kernel.ends[end].partner) else { return };
    if [end, partner].iter().any(|end| kernel.ends[*end].closed) {
        return;
    }
    let half = complete(kernel, end) || complete(kernel, partner);
    let bound = if half { kernel.limits.half_close } else { kernel.limits.idle };
    if quiet_for > bound + kernel.limits.grace + SLACK {
        kernel
            .verdict(format!("liveness: end {end} was silent for {quiet_for:?}, limit {bound:?}"));
    }
}

/// The worker closes: not before its time (patience), and not long after it (liveness).
pub fn on_close(kernel: &mut Kernel, end: EndId) {
    on_news(kernel, end);
    let quiet_for = quiet(kernel, end);
    if quiet_for > kernel.limits.longest {
        kernel.verdict(format!("liveness: end {end} lay still for {quiet_for:?}"));
    }
    let Some(partner) = kernel.ends[end].partner else { return };
    if kernel.ends[end].timed_out || kernel.ends[partner].partner != Some(end) {
        return;
    }
    let done = complete(kernel, end) && complete(kernel, partner);
    // Nobody asks a peer that has finished whether it is still there.
    let heard_of_reset = [end, partner]
        .iter()
        .any(|end| kernel.ends[*end].reset && !kernel.ends[across(*end)].fin_delivered);
    let starved = kernel.ends[end].starved || kernel.ends[partner].starved;
    if (done || heard_of_reset) && !starved && quiet_for > kernel.limits.grace + SLACK {
        kernel.verdict(format!(
            "liveness: end {end} was open for {quiet_for:?} after its connection was over"
        ));
    }
    let broken = [end, across(end), partner, across(partner)]
        .iter()
        .any(|end| kernel.ends[*end].reset || kernel.ends[*end].reset_sent);
    let limit = limit(kernel, end);
    let idle_for = idle_for(kernel, end);
    let timed_out = may_cut(kernel, end);
    if (done || broken) && !timed_out {
        return;
    }
    if !timed_out {
        kernel.verdict(format!(
            "patience: end {end} is closed {idle_for:?} after its last byte, limit {limit:?}"
        ));
    }
    kernel.ends[end].timed_out = true;
    kernel.ends[partner].timed_out = true;
}

/// Everybody has gone: nothing may be left, and what ended cleanly must be whole.
pub fn at_rest(world: &mut World, gauges: Gauges) {
    let kernel = &mut world.kernel;
    if gauges.parcels + gauges.buffers + gauges.pipes + gauges.sockets > 0 {
        kernel.verdict(format!("safety: something leaked: {gauges:?}"));
    }
    for id in 0..world.actors.len() {
        let actor = &world.actors[id];
        let ours = across(actor.end);
        if kernel.ends[ours].app != App::Poller {
            continue;
        }
        if !kernel.ends[ours].closed {
            kernel.verdict(format!("safety: end {ours} was never closed"));
        }
        let Some(partner) = kernel.ends[ours].partner else {
            if kernel.ends[ours].reset_sent && world.easy && kernel.cut_at == Moment::NEVER {
                kernel.verdict(format!("safety: client {id} was turned away for no reason"));
            }
            continue;
        };
        if kernel.ends[partner].partner != Some(ours) {
            continue;
        }
        let App::Actor(other) = kernel.ends[across(partner)].app else { continue };
        let excused = kernel.ends[ours].timed_out
            || kernel.ends[partner].timed_out
            || actor.rude
            || world.actors[other].rude;
        if excused {
            continue;
        }
        let (end, source) = (&kernel.ends[ours], &kernel.ends[across(partner)]);
        let whole = complete(kernel, ours)
            && end.delivered == end.written
            && end.fin_delivered
            && relayed(kernel, ours) == source.written;
        if !whole {
            let (delivered, written) = (end.delivered, source.written);
            kernel.verdict(format!(
                "safety: {} {id} got {delivered} of {written} bytes, although both were polite",
                actor.name
            ));
        }
    }
}

/// Bytes of the partner's peer that were pushed to an end.
fn relayed(kernel: &Kernel, end: EndId) -> u64 {
    match kernel.ends[end].pieces.last() {
        Some((from, Source::Stream(_, offset))) => offset + kernel.ends[end].written - from,
        Some((_, Source::Composed(_))) | None => 0,
    }
}

/// Whether the source of an end has finished, and everything from there was pushed.
fn complete(kernel: &Kernel, end: EndId) -> bool {
    let Some(partner) = kernel.ends[end].partner else { return false };
    let source = &kernel.ends[across(partner)];
    source.fin_delivered && relayed(kernel, end) == source.written
}

/// How long nothing has happened to an end and its partner.
fn quiet(kernel: &Kernel, end: EndId) -> Duration {
    let last = |end: EndId| -> Moment {
        let end = &kernel.ends[end];
        end.moved.max(end.since).max(end.news)
    };
    let partner = kernel.ends[end].partner.map_or(Moment::ZERO, last);
    kernel.now - last(end).max(partner)
}

/// Whether the worker may end this connection now, whatever was promised.
fn may_cut(kernel: &Kernel, end: EndId) -> bool {
    kernel.ends[end].timed_out
        || kernel.now >= kernel.cut_at
        || idle_for(kernel, end) >= limit(kernel, end)
}

/// How long the worker has moved no byte of an end and its partner.
fn idle_for(kernel: &Kernel, end: EndId) -> Duration {
    let partner = kernel.ends[end].partner.map_or(Moment::ZERO, |end| kernel.ends[end].moved);
    kernel.now - kernel.ends[end].moved.max(partner)
}

/// How long a session may be without a byte.
fn limit(kernel: &Kernel, end: EndId) -> Duration {
    let finished = [Some(end), kernel.ends[end].partner]
        .into_iter()
        .flatten()
        .any(|end| kernel.ends[across(end)].fin_delivered);
    if finished { kernel.limits.half_close.min(kernel.limits.idle) } else { kernel.limits.idle }
}

/// Two of the poller's ends belong to one session. A backend that got no byte may be replaced.
fn pair(kernel: &mut Kernel, one: EndId, two: EndId) {
    for (end, other) in [(one, two), (two, one)] {
        match kernel.ends[end].partner {
            Some(known) if known == other => {}
            Some(known) if kernel.ends[known].written > 0 || kernel.ends[end].written > 0 => {
                kernel.verdict(format!(
                    "safety: end {end} is relayed to end {other} after end {known} got its bytes"
                ));
            }
            _ => kernel.ends[end].partner = Some(other),
        }
    }
}

/// What a worker may be late by: its timers, its checks of stalled peers, and oversleeping.
const SLACK: Duration = Duration::from_secs(5);
