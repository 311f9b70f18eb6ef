//! The board's answers at each point of a machine's life.

use std::{net::Ipv4Addr, sync::Arc};

use agentvm_core::{
    machine::{Evidence, Incarnation},
    network::Nic,
    run::{AttemptEnd, AttemptResult},
};
use agentvm_crds::ResetStatus;

use super::*;
use crate::network::Attachment;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A board with one machine in the making.
struct World {
    board: Board,
    claims: ClaimGate,
    key: SlotKey,
    received: mpsc::UnboundedReceiver<MachineCommand>,
}

impl World {
    fn new() -> Self {
        Self::with_life(Life::Creating)
    }

    fn with_life(life: Life) -> Self {
        let key = SlotKey { pool_uid: PoolUid::new("pool"), slot: 0 };
        let (commands, received) = mpsc::unbounded_channel();
        let entry = Entry {
            name: DomainName::from_recorded("vm"),
            golden: GoldenKey::from_recorded("g"),
            size: Resources { vcpus: 1, memory_mib: 1, disk_gib: 1, cpu_shares: 1 },
            life,
            usage: None,
            claim: None,
            doubted: false,
            commands,
        };
        let mut board = Board::default();
        assert!(board.insert(key.clone(), entry));
        Self { board, claims: ClaimGate::default(), key, received }
    }

    fn with_idle(prepared: Prepared) -> Self {
        let mut world = Self::new();
        world.on(Event::Prepared(prepared));
        world
    }

    fn on(&mut self, event: Event) {
        assert!(self.board.on(&self.key, event));
    }

    fn acquire(&mut self) -> Option<Claim> {
        let node = (&NodeName::new("node"), &NodeId::new("id"));
        self.board.acquire(&self.key.pool_uid, &run(), node, &self.claims)
    }

    fn retire(&mut self) {
        self.board.retire(&self.key);
    }

    fn attempt(&self, n: u8) -> Option<AttemptState> {
        self.board.attempt(&run(), &nonce(n))
    }

    fn stale_network(&self, attachment: Attachment, resolver: Ipv4Addr) -> Vec<u32> {
        let wanted = PoolNetwork { attachment, resolvers: vec![resolver] };
        self.board.with_stale_network(&self.key.pool_uid, &wanted)
    }

    fn stale_limits(&self, wanted: &MachineLimits) -> usize {
        self.board.with_stale_limits(&self.key.pool_uid, wanted).len()
    }
}

fn run() -> RunUid {
    RunUid::new("run")
}

fn nonce(n: u8) -> Nonce {
    Nonce::from_bytes([n; 16])
}

fn prepared() -> Prepared {
    let incarnation = Incarnation { nonce: nonce(1), limits: None };
    Prepared { incarnation, since: NOW, evidence: Evidence::default(), nic: None }
}

#[test]
fn a_machine_that_is_brought_back_is_another_one_to_the_run_that_had_it() {
    let proof = ResetStatus { tier: "Fresh".into(), ..ResetStatus::default() };
    let evidence = Evidence { reset: proof.clone(), ..Evidence::default() };
    let mut world = World::with_idle(Prepared { evidence, ..prepared() });
    let claim = world.acquire().unwrap();
    assert_eq!((claim.nonce, claim.reset), (nonce(1), Some(proof)));
    world.on(Event::Execute);
    let result =
        AttemptResult { end: AttemptEnd::Exited(0), started: true, message: String::new() };
    world.on(Event::End(Arc::new(result.without_outcome())));
    assert!(matches!(world.attempt(1), Some(AttemptState::Ended(_))));
    world.on(Event::Reset);
    assert!(world.attempt(1).is_none() && world.attempt(2).is_none());
    let release = |nonce| MachineCommand::Release { nonce };
    assert!(!world.board.tell_run(&run(), release), "a second release doesn't reach it");
    world.retire();
    assert_eq!(world.board.seen(&world.key.pool_uid)[&0], SlotSeen::Resetting);
    let numbers = world.board.numbers(&world.key.pool_uid);
    assert_eq!((numbers.idle, numbers.total, world.acquire().is_none()), (0, 1, true));
    world.on(Event::Quarantine { until: Timestamp::MAX });
    assert!(world.acquire().is_none(), "nobody gets what is in quarantine");
    world.retire();
    assert!(matches!(world.received.try_recv(), Ok(MachineCommand::End)));
}

#[test]
fn a_claim_is_urgent_until_it_is_given_back_or_its_task_takes_over() {
    let mut world = World::with_idle(prepared());
    let other = SlotKey { slot: 1, ..world.key.clone() };
    assert!(!world.board.is_idle(&other) && world.board.is_idle(&world.key));
    world.acquire().unwrap();
    assert!(world.claims.any() && !world.board.is_idle(&world.key));
    world.board.give_back(&run(), NotWritten::proven_for_a_test(true), NOW);
    assert!(!world.claims.any() && world.board.is_idle(&world.key));
    world.acquire().unwrap();
    let claim = world.board.take_claim(&world.key);
    assert!(world.claims.any());
    drop(claim);
    assert!(!world.claims.any());
}

#[test]
fn a_claim_that_no_task_took_over_ends_with_its_machine() {
    let mut world = World::with_idle(prepared());
    world.acquire().unwrap();
    world.on(Event::Remove);
    assert!(!world.claims.any());
}

#[test]
fn an_accepted_command_takes_effect_at_once_and_an_illegal_event_none() {
    let mut world = World::with_idle(prepared());
    let stop =
        |n| MachineCommand::Stop { nonce: nonce(n), cause: agentvm_core::run::StopCause::Evicted };
    assert!(!world.board.on(&world.key, Event::Reset) && world.board.is_idle(&world.key));
    world.acquire().unwrap();
    assert_eq!(world.attempt(1), Some(AttemptState::Claimed));
    assert!(matches!(world.board.obey(&world.key, &stop(1)), Admission::Deny(_)));
    world.on(Event::Execute);
    assert_eq!(world.board.obey(&world.key, &stop(2)), Admission::Ignore, "of another attempt");
    assert_eq!(world.board.obey(&world.key, &stop(1)), Admission::Accept);
    assert_eq!(world.board.obey(&world.key, &stop(1)), Admission::Ignore, "it is stopped already");
    world.board.give_back(&run(), NotWritten::proven_for_a_test(true), NOW);
    assert_eq!(world.attempt(1), Some(AttemptState::Executing), "it can't be given back any more");
}

#[test]
fn idle_machines_that_are_connected_in_another_way_are_named() {
    let (asked, other) = (Ipv4Addr::new(203, 0, 113, 53), Ipv4Addr::new(203, 0, 113, 54));
    let instance = agentvm_core::names::InstanceId::for_state_dir("/x");
    let nic = Nic::bridge(&instance, &DomainName::from_recorded("vm"), "br0");
    let evidence = Evidence { resolvers: vec![asked], ..Evidence::default() };
    let mut world = World::with_idle(Prepared { evidence, nic: Some(nic), ..prepared() });
    let bridge = || Attachment::Bridge("br0".into());
    assert!(world.stale_network(bridge(), asked).is_empty());
    assert_eq!(world.stale_network(bridge(), other), [0], "it asks somebody else for names");
    assert_eq!(world.stale_network(Attachment::Nat, asked), [0]);
    world.acquire().unwrap();
    assert!(world.stale_network(Attachment::Nat, asked).is_empty(), "a run has it");
}

#[test]
fn machines_that_are_held_to_other_limits_are_named_until_they_are_told() {
    let mut world = World::new();
    let old = MachineLimits::default();
    let new = MachineLimits { cpu_quota_percent: Some(50), ..MachineLimits::default() };
    assert_eq!(world.stale_limits(&new), 0, "who makes it knows");
    let incarnation = Incarnation { nonce: nonce(1), limits: Some(old) };
    world.on(Event::Prepared(Prepared { incarnation, ..prepared() }));
    assert_eq!((world.stale_limits(&old), world.stale_limits(&new)), (0, 1));
    world.acquire().unwrap();
    assert_eq!(world.stale_limits(&new), 1, "a run's too");
    world.board.set_limits(&world.key, &nonce(2), new);
    assert_eq!(world.stale_limits(&new), 1, "that was said to the machine before");
    world.board.set_limits(&world.key, &nonce(1), new);
    assert_eq!(world.stale_limits(&new), 0);
}

#[test]
fn a_machine_that_was_found_after_a_restart_is_not_given_back() {
    let incarnation = Incarnation { nonce: nonce(1), limits: None };
    let mut world = World::with_life(Life::Found { run: run(), incarnation });
    world.board.give_back(&run(), NotWritten::proven_for_a_test(true), NOW);
    assert_eq!(world.attempt(1), Some(AttemptState::Claimed), "it may have executed");
    assert!(world.board.holds(&run()) && !world.board.is_idle(&world.key));
}

#[test]
fn a_nonce_that_may_stand_in_a_status_is_lent_to_no_other_run() {
    // Either a write of the claim was in doubt before, or the last one had no clear answer.
    for (doubted, refused) in [(true, true), (false, false)] {
        let mut world = World::with_idle(prepared());
        let claim = world.acquire().unwrap();
        if doubted {
            world.board.doubt(&run());
            assert!(!world.claims.any(), "other machines do not wait for it");
            assert_eq!(world.acquire(), Some(claim), "the run keeps its machine");
        }
        world.board.give_back(&run(), NotWritten::proven_for_a_test(refused), NOW);
        assert!(!world.board.holds(&run()) && !world.board.is_idle(&world.key));
        assert!(matches!(world.received.try_recv(), Ok(MachineCommand::End)), "it is replaced");
        // The claim turns up after all.
        let Some(AttemptState::Ended(done)) = world.attempt(1) else { panic!("it is over") };
        assert!(!done.result.started, "nothing was sent to the machine");
        assert_eq!(world.attempt(2), None, "of another attempt nothing is known");
        world.board.keep_runs(|_| false);
        assert_eq!(world.attempt(1), None);
    }
}

#[test]
fn a_machine_that_works_for_a_run_is_not_acquired_again() {
    let mut world = World::with_idle(prepared());
    let node = (&NodeName::new("node"), &NodeId::new("id"));
    world.acquire().unwrap();
    assert!(world.board.work_of(&run(), node).is_none(), "nothing was sent to it");
    world.on(Event::Execute);
    assert_eq!(world.acquire(), None);
    assert!(world.board.work_of(&run(), node).unwrap().done.is_none());
    world.on(Event::End(Arc::new(FinishedAttempt::machine_gone("vm"))));
    assert_eq!(world.acquire(), None);
    let work = world.board.work_of(&run(), node).unwrap();
    assert_eq!((work.claim.nonce, work.done.is_some()), (nonce(1), true));
}
