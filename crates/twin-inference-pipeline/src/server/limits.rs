//! How much each key may ask: buckets that fill steadily, so that a pause is credited for a minute and no longer.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Caller;

/// How much the bearer of one key may ask. 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub requests_per_minute: u32,
    /// Tokens read and written. They are known only afterwards, so one request may go over and the next ones wait for it.
    pub tokens_per_minute: u32,
}

/// What is left of the requests.
pub(super) struct Left {
    pub limit: u32,
    pub remaining: u32,
}

/// Why a request has to wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Limited {
    what: &'static str,
    limit: u32,
    /// For how long, rounded up.
    pub seconds: u64,
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, limit, seconds } = self;
        write!(f, "this key may ask for {limit} {what} a minute: try again in {seconds} s")
    }
}

/// The buckets of all keys.
#[derive(Default)]
pub(super) struct Limiter {
    limits: Limits,
    callers: Vec<Mutex<Buckets>>,
}

struct Buckets {
    requests: f64,
    tokens: f64,
    at: Instant,
}

impl Limiter {
    pub(super) fn new(limits: Limits, callers: usize) -> Self {
        let (requests, tokens) = (limits.requests_per_minute.into(), limits.tokens_per_minute.into());
        let full = |_| Mutex::new(Buckets { requests, tokens, at: Instant::now() });
        Self { limits, callers: (0..callers.max(1)).map(full).collect() }
    }

    /// Takes a request; says what is left where requests are counted.
    pub(super) fn admit(&self, caller: Caller, now: Instant) -> Result<Option<Left>, Limited> {
        let Some(mut buckets) = self.filled(caller, now) else { return Ok(None) };
        let Limits { requests_per_minute: requests, tokens_per_minute: tokens } = self.limits;
        let wait = |missing: f64, limit: u32| (missing * 60.0 / f64::from(limit)).ceil().max(1.0) as u64;
        if tokens > 0 && buckets.tokens <= 0.0 {
            return Err(Limited { what: "tokens", limit: tokens, seconds: wait(1.0 - buckets.tokens, tokens) });
        }
        if requests == 0 {
            return Ok(None);
        }
        if buckets.requests < 1.0 {
            return Err(Limited { what: "requests", limit: requests, seconds: wait(1.0 - buckets.requests, requests) });
        }
        buckets.requests -= 1.0;
        Ok(Some(Left { limit: requests, remaining: buckets.requests as u32 }))
    }

    /// Takes the tokens of an answer.
    pub(super) fn spend(&self, caller: Caller, tokens: usize, now: Instant) {
        if let Some(mut buckets) = self.filled(caller, now) {
            buckets.tokens -= tokens as f64;
        }
    }

    fn filled(&self, caller: Caller, now: Instant) -> Option<MutexGuard<'_, Buckets>> {
        let mut buckets = self.callers.get(caller.0)?.lock().unwrap_or_else(PoisonError::into_inner);
        let minutes = now.saturating_duration_since(buckets.at).as_secs_f64() / 60.0;
        let fill = |level: f64, limit: u32| (level + minutes * f64::from(limit)).min(limit.into());
        buckets.requests = fill(buckets.requests, self.limits.requests_per_minute);
        buckets.tokens = fill(buckets.tokens, self.limits.tokens_per_minute);
        buckets.at = buckets.at.max(now);
        Some(buckets)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limiter(requests_per_minute: u32, tokens_per_minute: u32) -> (Limiter, Instant) {
        (Limiter::new(Limits { requests_per_minute, tokens_per_minute }, 2), Instant::now())
    }

    #[test]
    fn requests_come_back_with_time_and_each_key_has_its_own() {
        let (limiter, now) = limiter(2, 0);
        let left = |caller, now| limiter.admit(Caller(caller), now).map(|left| left.map(|left| left.remaining));
        assert_eq!(left(0, now), Ok(Some(1)));
        assert_eq!(left(0, now), Ok(Some(0)));
        assert_eq!(left(0, now), Err(Limited { what: "requests", limit: 2, seconds: 30 }));
        assert_eq!(left(1, now), Ok(Some(1)));
        assert_eq!(left(0, now + Duration::from_secs(31)), Ok(Some(0)));
        assert_eq!(left(0, now + Duration::from_secs(3_600)), Ok(Some(1)), "no more than a minute's is saved up");
    }

    #[test]
    fn tokens_are_owed() {
        let (limiter, now) = limiter(0, 600);
        assert!(limiter.admit(Caller(0), now).is_ok());
        limiter.spend(Caller(0), 1_200, now);
        let limited = limiter.admit(Caller(0), now).err().map(|limited| limited.seconds);
        assert_eq!(limited, Some(61));
        assert!(limiter.admit(Caller(0), now + Duration::from_secs(61)).is_ok());
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        let (limiter, now) = limiter(0, 0);
        limiter.spend(Caller(0), 1 << 40, now);
        assert!((0..1_000).all(|_| matches!(limiter.admit(Caller(0), now), Ok(None))));
    }
}
