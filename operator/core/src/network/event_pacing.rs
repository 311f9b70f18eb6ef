//! The pace of a run's Events about denied flows: each Event costs a write, and a run may cost few.

use std::time::{Duration, Instant};

/// From the first denied flow to the Event: denied flows within this time are one Event.
const GATHER: Duration = Duration::from_secs(1);
/// The least time between two Events of a run.
const PAUSE: Duration = Duration::from_mins(1);

/// The times that decide when a run's next Event is due.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventPacing {
    /// Since when there is something to say.
    news_since: Option<Instant>,
    last_event: Option<Instant>,
}

impl EventPacing {
    /// There is something to say since `at`, if there was nothing before.
    pub fn on_news(&mut self, at: Instant) {
        self.news_since.get_or_insert(at);
    }

    /// Whether an Event is due.
    pub fn is_due(&self, now: Instant) -> bool {
        let gathered =
            self.news_since.is_some_and(|since| now.saturating_duration_since(since) >= GATHER);
        let paused =
            self.last_event.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE);
        gathered && paused
    }

    /// An Event was due at `now`. `written` says whether there was a text for it, and `more`
    /// whether there is still something to say.
    pub fn on_event(&mut self, now: Instant, written: bool, more: bool) {
        if written {
            self.last_event = Some(now);
        }
        self.news_since = more.then_some(now);
    }

    /// Whether the run has had an Event.
    pub fn had_event(&self) -> bool {
        self.last_event.is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_run_has_an_event_a_minute_at_the_most_and_each_has_gathered(
            steps in prop::collection::vec((0_u64..5_000, any::<bool>()), 0..200),
        ) {
            #[expect(clippy::disallowed_methods, reason = "an origin for made-up times")]
            let start = Instant::now();
            let (mut now, mut pacing) = (start, EventPacing::default());
            let (mut oldest, mut events) = (None, Vec::new());
            for (millis, denied) in steps {
                now += Duration::from_millis(millis);
                if denied {
                    pacing.on_news(now);
                    oldest.get_or_insert(now);
                }
                if pacing.is_due(now) {
                    prop_assert!(oldest.is_some_and(|oldest| now - oldest >= GATHER));
                    pacing.on_event(now, true, false);
                    (oldest, events) = (None, [events, vec![now]].concat());
                }
            }
            prop_assert!(events.windows(2).all(|pair| pair[1] - pair[0] >= PAUSE));
            prop_assert_eq!(pacing.had_event(), !events.is_empty());
        }
    }
}
