//! Timeouts and retries: values of an inner map over those of an outer one.

use std::time::Duration;

use super::super::datum::{Datum, Record};
use super::super::plan::{RetryPlan, Timeouts};
use super::super::units::print_duration;
use super::Builder;

impl Builder<'_> {
    /// The values of `record` over those of `base`; the top level has no base, and all defaults.
    pub(super) fn timeouts(&mut self, record: Option<&Record>, base: Option<Timeouts>) -> Timeouts {
        let Some(record) = record else {
            return base.unwrap_or_else(|| unreachable!("the table gives timeouts a default"));
        };
        let length = |key: &str, base: Option<_>| match base {
            Some(base) => record.read(key, Datum::duration).unwrap_or(base),
            None => record.filled(key, Datum::duration),
        };
        let limit = |key: &str, base: Option<_>| match base {
            Some(base) => record.read(key, Datum::timeout).unwrap_or(base),
            None => record.filled(key, Datum::timeout),
        };
        let timeouts = Timeouts {
            connect: length("connect", base.map(|base| base.connect)),
            connect_total: length("connect_total", base.map(|base| base.connect_total)),
            idle: limit("idle", base.map(|base| base.idle)),
            half_close: limit("half_close", base.map(|base| base.half_close)),
            max_lifetime: limit("max_lifetime", base.map(|base| base.max_lifetime)),
            lifetime_jitter: match base {
                Some(base) => {
                    record.read("lifetime_jitter", Datum::share).unwrap_or(base.lifetime_jitter)
                }
                None => record.filled("lifetime_jitter", Datum::share),
            },
        };
        self.in_order(
            record,
            ("connect_total", timeouts.connect_total),
            ("connect", timeouts.connect),
        );
        timeouts
    }

    pub(super) fn retry(&mut self, record: Option<&Record>, base: Option<RetryPlan>) -> RetryPlan {
        let Some(record) = record else {
            return base.unwrap_or_else(|| unreachable!("the table gives retry a default"));
        };
        let read = |key: &str, base: Option<_>| match base {
            Some(base) => record.read(key, Datum::duration).unwrap_or(base),
            None => record.filled(key, Datum::duration),
        };
        let retry = RetryPlan {
            attempts: match (record.read("attempts", Datum::whole), base) {
                (None, Some(base)) => base.attempts,
                (attempts, _) => u8::try_from(attempts.unwrap_or(1)).unwrap_or(u8::MAX),
            },
            backoff_base: read("backoff_base", base.map(|base| base.backoff_base)),
            backoff_multiplier: match base {
                Some(base) => record
                    .read("backoff_multiplier", Datum::number)
                    .unwrap_or(base.backoff_multiplier),
                None => record.filled("backoff_multiplier", Datum::number),
            },
            backoff_max: read("backoff_max", base.map(|base| base.backoff_max)),
        };
        self.in_order(
            record,
            ("backoff_max", retry.backoff_max),
            ("backoff_base", retry.backoff_base),
        );
        retry
    }

    /// Refuses `longer < shorter`, at whichever of the two this map spells out.
    pub(super) fn in_order(
        &mut self,
        record: &Record,
        (longer, long): (&str, Duration),
        (shorter, short): (&str, Duration),
    ) {
        if long >= short {
            return;
        }
        let (long, short) = (print_duration(long), print_duration(short));
        if record.was_given(longer) {
            let place = record.get(longer).map_or(record.place, |item| item.place);
            let message =
                format!("{long} is shorter than {shorter}, {short} (raise it, or lower {shorter})");
            self.findings.error(place, &record.path_of(longer), message);
        } else {
            let place = record.get(shorter).map_or(record.place, |item| item.place);
            let message =
                format!("{short} is longer than {longer}, {long} (lower it, or raise {longer})");
            self.findings.error(place, &record.path_of(shorter), message);
        }
    }
}
