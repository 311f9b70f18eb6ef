//! Decides the client's next step. It sends nothing, sets nothing and asks no clock.
//!
//! ```text
//!   Seeking ──offer──► Taking ──granted──► Holding ──half over: asks for more──► Holding
//!      ▲                  │ refused, silence   │ refused, over
//!      └──────────────────┴────────────────────┘
//! ```
//!
//! Times are the host's wall clock, which the agent gets: while a machine is parked, no clock of
//! its own runs, but its lease does.

use std::time::Duration;

use super::lease_terms::Terms;
use super::message::{Ask, Said, Talk, ask, hear};

/// Between two questions at first, doubled each time up to the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(8);
/// Between two questions for more, at least.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// The number of requests for an offer before the client looks for others.
const TAKE: u32 = 4;

/// The actions to take, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Send(Vec<u8>),
    /// The interface has this from now on.
    Hold(Terms),
    /// The interface has nothing any more, and why.
    Lose(&'static str),
}

/// A question that is repeated until it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Question {
    id: u32,
    begun: Duration,
    asked: Option<Duration>,
    next: Duration,
    times: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Seeking(Question),
    Taking(Terms, Question),
    Holding { terms: Terms, since: Duration, more: Option<Question> },
}

#[derive(Clone, Debug)]
pub struct Client {
    mac: [u8; 6],
    state: State,
    /// The fault of the last offer.
    unfit: Option<&'static str>,
}

impl Question {
    fn new(id: u32, begun: Duration) -> Self {
        Self { id, begun, asked: None, next: begun, times: 0 }
    }

    /// This also covers a clock that was set back: the client does not wait for a time that was
    /// wrong.
    fn is_due(&self, now: Duration) -> bool {
        now >= self.next || self.asked.is_some_and(|asked| now < asked)
    }

    /// Machines that were made at the same time don't ask at the same time for ever.
    fn ask(&mut self, now: Duration, random: u32, pause: Duration) {
        self.times = self.times.saturating_add(1);
        self.asked = Some(now);
        self.next = now + pause + pause.mul_f64(f64::from(random % 256) / 1024.0);
    }

    fn pause(&self) -> Duration {
        FIRST.saturating_mul(1 << self.times.min(8)).min(LONGEST)
    }

    fn seconds(&self, now: Duration) -> u16 {
        u16::try_from(now.saturating_sub(self.begun).as_secs()).unwrap_or(u16::MAX)
    }
}

impl Client {
    pub fn new(mac: [u8; 6], now: Duration, random: u32) -> Self {
        Self { mac, state: State::Seeking(Question::new(random, now)), unfit: None }
    }

    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The fault of the last offer.
    pub fn unfit(&self) -> Option<&'static str> {
        self.unfit
    }

    /// Whether an answer is waited for.
    pub fn is_asking(&self) -> bool {
        self.question().is_some()
    }

    fn question(&self) -> Option<&Question> {
        match &self.state {
            State::Seeking(question) | State::Taking(_, question) => Some(question),
            State::Holding { more, .. } => more.as_ref(),
        }
    }

    /// The time until the next action; none means that there is no next action.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        let State::Holding { terms, since, more } = &self.state else {
            return self.question().map(|question| until(question, now));
        };
        let ends = *since + terms.lasts?;
        if now < *since && more.is_none() {
            return Some(Duration::ZERO);
        }
        let next = more
            .as_ref()
            .map_or((*since + terms.renew).saturating_sub(now), |question| until(question, now));
        Some(next.min(ends.saturating_sub(now)))
    }

    /// Takes in a message, if there is one, and does the due work. `random` is an unguessable
    /// number, another one each time.
    pub fn step(&mut self, now: Duration, random: u32, heard: Option<&[u8]>) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(effect) = heard.and_then(|bytes| self.hear(now, random, bytes)) {
            effects.push(effect);
        }
        self.expire(now, random, &mut effects);
        if let Some(bytes) = self.ask(now, random) {
            effects.push(Effect::Send(bytes));
        }
        effects
    }

    fn hear(&mut self, now: Duration, random: u32, bytes: &[u8]) -> Option<Effect> {
        let question = self.question()?;
        let (id, asked) = (question.id, question.asked.unwrap_or(now));
        let said = hear(bytes, Talk { mac: self.mac, id })?;
        let again = |from| State::Seeking(Question::new(random, from));
        match (&self.state, said) {
            (_, Said::Offer(Err(why)) | Said::Granted(Err(why))) => self.unfit = Some(why),
            (State::Seeking(_), Said::Offer(Ok(terms))) => {
                self.state = State::Taking(terms, Question::new(id, now));
            }
            (
                State::Taking(mine, _) | State::Holding { terms: mine, .. },
                Said::Granted(Ok(terms)),
            ) if terms.address == mine.address => {
                // The lease counts from the question: it ends here no later than at the server.
                self.state = State::Holding { terms: terms.clone(), since: asked, more: None };
                return Some(Effect::Hold(terms));
            }
            // A server that always refuses is not asked without a pause.
            (State::Taking(..), Said::Refused) => {
                self.unfit = Some("the server takes it back");
                self.state = again(now + FIRST);
            }
            (State::Holding { .. }, Said::Refused) => {
                self.state = again(now);
                return Some(Effect::Lose("the server takes it back"));
            }
            _ => {}
        }
        None
    }

    fn expire(&mut self, now: Duration, random: u32, effects: &mut Vec<Effect>) {
        let State::Holding { terms, since, .. } = &self.state else { return };
        if terms.lasts.is_some_and(|lasts| now >= *since + lasts) {
            self.state = State::Seeking(Question::new(random, now));
            effects.push(Effect::Lose("its time is over"));
        }
    }

    /// The question to ask now.
    fn ask(&mut self, now: Duration, random: u32) -> Option<Vec<u8>> {
        if matches!(&self.state, State::Taking(_,
            question) if question.times >= TAKE && question.is_due(now))
        {
            self.state = State::Seeking(Question::new(random, now));
        }
        let (question, pause, what) = match &mut self.state {
            State::Seeking(question) => (&mut *question, None, Ask::Discover),
            State::Taking(Terms { address, server, .. }, question) => {
                (&mut *question, None, Ask::Take { address: *address, server: *server })
            }
            State::Holding { terms, since, more } => {
                let ends = *since + terms.lasts?;
                // The age of a lease that begins in the future is not known.
                if more.is_none() && (*since..*since + terms.renew).contains(&now) {
                    return None;
                }
                let pause = (ends.saturating_sub(now) / 2).max(RENEW_EVERY);
                let question = more.get_or_insert_with(|| Question::new(random, now));
                (question, Some(pause), Ask::Renew { address: terms.address })
            }
        };
        if !question.is_due(now) {
            return None;
        }
        let pause = pause.unwrap_or_else(|| question.pause());
        question.ask(now, random, pause);
        Some(ask(Talk { mac: self.mac, id: question.id }, question.seconds(now), what))
    }
}

fn until(question: &Question, now: Duration) -> Duration {
    if question.is_due(now) { Duration::ZERO } else { question.next.saturating_sub(now) }
}
