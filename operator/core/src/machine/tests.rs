//! The laws of a machine's life, against a model that is nothing but the list of arrows.

use std::sync::Arc;

use agentvm_types::{MachineLimits, Nonce, RunUid};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{
    names::GoldenKey,
    pool::SlotSeen,
    run::{AttemptEnd, AttemptResult, FinishedAttempt, Outcome, StopCause},
};

/// The diagram of the module, arrow by arrow.
const ARROWS: &[(&str, &str, &str)] = &[
    ("Creating", "Prepared", "Idle"),
    ("Creating", "Quarantine", "Quarantined"),
    ("Idle", "Claim", "Claimed"),
    ("Idle", "Retire", "Ending"),
    ("Claimed", "GiveBack", "Idle"),
    ("Claimed", "Execute", "Executing"),
    ("Found", "Execute", "Executing"),
    ("Executing", "Stop", "Executing"),
    ("Executing", "End", "Ended"),
    ("Ended", "Reset", "Resetting"),
    ("Resetting", "Prepared", "Idle"),
    ("Resetting", "Quarantine", "Quarantined"),
    ("Quarantined", "Retire", "Ending"),
];

fn arrow(state: &str, event: &str) -> Option<&'static str> {
    if event == "Remove" {
        return Some("Ending");
    }
    let found = ARROWS.iter().find(|(from, by, _)| *from == state && *by == event);
    found.map(|(.., to)| *to)
}

fn nonce(n: u8) -> Nonce {
    Nonce::from_bytes([n; 16])
}

fn incarnation(n: u8) -> Incarnation {
    Incarnation { nonce: nonce(n), limits: None }
}

fn prepared(n: u8) -> Prepared {
    Prepared {
        incarnation: incarnation(n),
        since: Timestamp::UNIX_EPOCH,
        evidence: Evidence { reuses: u32::from(n), ..Evidence::default() },
        nic: None,
    }
}

fn run(n: u8) -> RunUid {
    RunUid::new(format!("run-{n}"))
}

fn done(n: u8) -> Arc<FinishedAttempt> {
    let end = AttemptEnd::Exited(n.into());
    let result = AttemptResult { end, started: true, message: String::new() };
    Arc::new(FinishedAttempt { result, outcome: Outcome::default() })
}

/// Few nonces and runs, so that some are equal. `Retire` and `Remove` are rare: no arrow leads back
/// from `Ending`.
fn event() -> impl Strategy<Value = Event> {
    let small = || 0_u8..3;
    prop_oneof![
        20 => small().prop_map(|n| Event::Prepared(prepared(n))),
        20 => small().prop_map(|n| Event::Claim { run: run(n) }),
        5 => Just(Event::GiveBack { now: Timestamp::MAX }),
        20 => Just(Event::Execute),
        5 => Just(Event::Stop(StopCause::Evicted)),
        20 => small().prop_map(|n| Event::End(done(n))),
        20 => Just(Event::Reset),
        3 => Just(Event::Quarantine { until: Timestamp::MAX }),
        1 => Just(Event::Retire),
        1 => Just(Event::Remove),
    ]
}

fn birth() -> impl Strategy<Value = Life> {
    prop_oneof![
        4 => Just(Life::Creating),
        1 => Just(Life::Found { run: run(0), incarnation: incarnation(0) }),
        1 => Just(Life::Quarantined { until: Timestamp::MAX }),
        1 => Just(Life::Ending),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec(event(), 0..60)
}

/// Every state that can be reached, by any way.
fn life() -> impl Strategy<Value = Life> {
    (birth(), events()).prop_map(|(birth, events)| {
        events.into_iter().fold(birth, |life, event| life.clone().on(event).unwrap_or(life))
    })
}

fn command(kind: u8, n: u8) -> MachineCommand<()> {
    let nonce = nonce(n);
    match kind {
        0 => MachineCommand::Execute { nonce, spec: () },
        1 => MachineCommand::Stop { nonce, cause: StopCause::Cancelled },
        2 => MachineCommand::Release { nonce },
        _ => MachineCommand::End,
    }
}

proptest! {
    #[test]
    fn an_event_is_legal_where_the_diagram_has_its_arrow(life in life(), event in event()) {
        let (state, name) = (life.name(), event.name());
        let wanted = arrow(state, name).filter(|_| match (&life, &event) {
            (Life::Resetting { used }, Event::Prepared(next)) => next.incarnation.nonce != *used,
            (Life::Executing { stop, .. }, Event::Stop(_)) => stop.is_none(),
            _ => true,
        });
        match life.on(event) {
            Ok(next) => prop_assert_eq!(Some(next.name()), wanted),
            Err(why) => {
                prop_assert_eq!(wanted, None);
                prop_assert_eq!(why, Illegal { state, event: name });
            }
        }
    }

    #[test]
    fn the_data_of_a_state_survives_each_arrow_that_keeps_it(life in life(), event in event()) {
        let before = life.clone();
        let Ok(after) = life.on(event.clone()) else { return Ok(()) };
        match (&before, event) {
            (_, Event::Prepared(new)) => prop_assert_eq!(&after, &Life::Idle(new)),
            (Life::Idle(old), Event::Claim { run }) => {
                prop_assert_eq!(&after, &Life::Claimed { run, prepared: old.clone() });
            }
            (Life::Claimed { prepared, .. }, Event::GiveBack { now }) => {
                let back = Prepared { since: now, ..prepared.clone() };
                prop_assert_eq!(&after, &Life::Idle(back));
            }
            (_, Event::Execute | Event::Stop(_)) => {
                prop_assert_eq!(owner(&after), owner(&before));
                prop_assert_eq!(after.incarnation(), before.incarnation());
            }
            (_, Event::End(new)) => {
                prop_assert_eq!(owner(&after), owner(&before));
                prop_assert_eq!(after.incarnation(), before.incarnation());
                let kept = matches!(&after, Life::Ended { done, .. } if *done == new);
                prop_assert!(kept);
            }
            (_, Event::Reset) => {
                let used = before.incarnation().map(|it| it.nonce.clone());
                prop_assert_eq!(Some(after), used.map(|used| Life::Resetting { used }));
            }
            (_, Event::Quarantine { until }) => {
                prop_assert_eq!(&after, &Life::Quarantined { until });
            }
            (_, Event::Retire | Event::Remove) => prop_assert_eq!(&after, &Life::Ending),
            (before, event) => prop_assert!(false, "{before:?} took {event:?}"),
        }
    }

    #[test]
    fn only_an_idle_machine_can_be_claimed(life in life()) {
        let idle = is_idle(&life);
        prop_assert_eq!(life.on(Event::Claim { run: run(0) }).is_ok(), idle);
    }

    #[test]
    fn a_machine_that_executed_is_idle_again_only_after_a_reset_and_with_another_nonce(
        birth in birth(),
        events in events(),
    ) {
        let (mut life, mut executed, mut was_reset) = (birth, None, false);
        for event in events {
            life = life.clone().on(event).unwrap_or(life);
            match &life {
                Life::Executing { incarnation, .. } => {
                    (executed, was_reset) = (Some(incarnation.nonce.clone()), false);
                }
                Life::Resetting { .. } => was_reset = true,
                Life::Idle(prepared) => {
                    if let Some(nonce) = executed.take() {
                        prop_assert!(was_reset && prepared.incarnation.nonce != nonce);
                    }
                }
                _ => {}
            }
        }
    }

    #[test]
    fn a_machine_that_may_have_executed_is_never_given_back(life in life()) {
        let claimed = matches!(life, Life::Claimed { .. });
        prop_assert_eq!(life.on(Event::GiveBack { now: Timestamp::MAX }).is_ok(), claimed);
    }

    #[test]
    fn an_incarnation_that_was_reset_is_found_by_nothing(
        life in life(),
        n in 0_u8..3,
        r in 0_u8..3,
    ) {
        let Ok(reset) = life.on(Event::Reset) else { return Ok(()) };
        prop_assert_eq!(attempt(&reset, &run(r), &nonce(n)), None);
        prop_assert!(!reset.clone().set_limits(&nonce(n), MachineLimits::default()));
        let accepted = (0..3).any(|kind| admit(&reset, &command(kind, n)) == Admission::Accept);
        prop_assert!(!accepted, "a command of a run was accepted");
    }

    #[test]
    fn a_command_of_a_run_is_obeyed_by_the_incarnation_that_it_names_only(
        life in life(),
        kind in 0_u8..3,
        n in 0_u8..4,
    ) {
        let named = life.incarnation().is_some_and(|it| it.nonce == nonce(n));
        if admit(&life, &command(kind, n)) == Admission::Accept {
            prop_assert!(named && owner(&life).is_some());
        }
    }

    #[test]
    fn a_command_that_is_accepted_has_its_arrow_and_asking_twice_is_no_error(
        life in life(),
        n in 0_u8..3,
    ) {
        if admit(&life, &command(0, n)) == Admission::Accept {
            let executing = life.clone().on(Event::Execute).unwrap();
            prop_assert_eq!(admit(&executing, &command(0, n)), Admission::Ignore);
        }
        if admit(&life, &command(1, n)) == Admission::Accept {
            let stopping = life.clone().on(Event::Stop(StopCause::Cancelled)).unwrap();
            prop_assert_eq!(admit(&stopping, &command(1, n)), Admission::Ignore);
        }
        if admit(&life, &command(2, n)) == Admission::Accept {
            let ending = life.clone().on(Event::Remove).unwrap();
            prop_assert_eq!(admit(&ending, &command(2, n)), Admission::Ignore);
        }
        prop_assert_eq!(admit(&life, &command(3, n)), Admission::Accept);
    }

    #[test]
    fn limits_are_noted_for_the_incarnation_that_they_were_set_for(life in life(), n in 0_u8..4) {
        let mut after = life.clone();
        let limits = MachineLimits { processes: 7, ..MachineLimits::default() };
        let named = life.incarnation().is_some_and(|it| it.nonce == nonce(n));
        prop_assert_eq!(after.set_limits(&nonce(n), limits), named);
        let noted = after.incarnation().is_some_and(|it| it.limits == Some(limits));
        prop_assert_eq!(noted, named);
        prop_assert_eq!(after.name(), life.name());
        prop_assert_eq!(life.incarnation().is_some(), is_idle(&life) || owner(&life).is_some());
    }

    #[test]
    fn the_views_agree_with_each_other(life in life(), n in 0_u8..3, r in 0_u8..3) {
        let slot = slot(&life, &GoldenKey::from_recorded("g"));
        let numbers = numbers([&life]);
        prop_assert_eq!(numbers, Numbers { idle: u32::from(is_idle(&life)), total: 1 });
        prop_assert_eq!(matches!(slot, SlotSeen::Idle { .. }), is_idle(&life));
        let seen = attempt(&life, &run(r), &nonce(n));
        if seen.is_some() {
            prop_assert_eq!(owner(&life), Some(&run(r)));
            prop_assert!(matches!(slot, SlotSeen::Claimed | SlotSeen::Ending));
        }
        if is_held_for(&life, &run(r)) {
            prop_assert_eq!(slot, SlotSeen::Claimed);
            prop_assert_eq!(owner(&life), Some(&run(r)));
        }
        let back = life.clone().on(Event::GiveBack { now: jiff::Timestamp::UNIX_EPOCH });
        let mine = owner(&life) == Some(&run(r));
        prop_assert_eq!(back.is_ok() && mine, is_claimed_by(&life, &run(r)));
    }
}

#[test]
fn every_state_is_reached_and_every_arrow_is_taken() {
    let take = |life: &Life, event: Event| life.clone().on(event).unwrap();
    let idle = take(&Life::Creating, Event::Prepared(prepared(1)));
    let claimed = take(&idle, Event::Claim { run: run(1) });
    let executing = take(&claimed, Event::Execute);
    let ended = take(&executing, Event::End(done(0)));
    let resetting = take(&ended, Event::Reset);
    let states = [&idle, &claimed, &executing, &ended, &resetting].map(Life::name);
    assert_eq!(states, ["Idle", "Claimed", "Executing", "Ended", "Resetting"]);
    let same = resetting.clone().on(Event::Prepared(prepared(1)));
    let illegal = Illegal { state: "Resetting", event: "Prepared" };
    assert_eq!(same, Err(illegal), "its nonce was used");
    assert!(illegal.to_string().contains("Prepared") && illegal.to_string().contains("Resetting"));
    assert!(is_idle(&take(&resetting, Event::Prepared(prepared(2)))));
}

#[test]
fn a_denied_command_says_why() {
    let idle = Life::Idle(prepared(1));
    let denied = |life: &Life, kind| admit(life, &command(kind, 1));
    assert_eq!(denied(&idle, 0), Admission::Deny(Denied::NotClaimed));
    assert_eq!(denied(&Life::Ending, 0), Admission::Deny(Denied::Ending));
    let claimed = Life::Claimed { run: run(1), prepared: prepared(1) };
    assert_eq!(denied(&claimed, 1), Admission::Deny(Denied::NotExecuting));
    let other = Life::Claimed { run: run(1), prepared: prepared(2) };
    assert_eq!(denied(&other, 0), Admission::Deny(Denied::OtherIncarnation));
    assert_eq!(denied(&other, 2), Admission::Ignore, "a second release");
}

/// The text stands on hosts: an operator of the next version reads it.
#[test]
fn evidence_is_written_in_the_same_form_as_ever() {
    let text =
        r#"{"reset":{"tier":"Fresh","millis":3,"checks":[]},"reuses":2,"resolvers":["192.0.2.1"]}"#;
    let evidence: Evidence = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&evidence).unwrap(), text);
    let old = r#"{"reset":{"tier":"Fresh","millis":3,"checks":[]},"reuses":2}"#;
    assert_eq!(
        serde_json::from_str::<Evidence>(old).unwrap().resolvers,
        [] as [std::net::Ipv4Addr; 0]
    );
}
