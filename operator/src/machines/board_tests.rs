//! What the board says of machines at each point of their lives.

use super::*;
use crate::network::Attachment;

fn pool() -> PoolUid {
    PoolUid::new("pool")
}

fn run() -> RunUid {
    RunUid::new("run")
}

fn node() -> NodeName {
    NodeName::new("node")
}

fn nonce(n: u8) -> Nonce {
    Nonce::from_bytes([n; 16])
}

const FAILED: PoolReason = PoolReason::CreateFailed;

#[test]
fn failures_of_one_batch_count_once() {
    let mut board = Board::default();
    let start = Timestamp::UNIX_EPOCH;
    for n in 0..20 {
        board.note_trouble(&pool(), FAILED, format!("failure {n}"), start);
    }
    let first = board.trouble(&pool()).unwrap();
    assert_eq!((first.failures, first.message.as_str()), (1, "failure 19"));
    board.note_trouble(&pool(), FAILED, "again".to_owned(), first.hold_until);
    let second = board.trouble(&pool()).unwrap();
    assert_eq!(second.failures, 2);
    assert!(
        second.hold_until.duration_since(first.hold_until) > first.hold_until.duration_since(start)
    );
}

#[test]
fn a_reset_does_not_say_that_machines_can_be_made_again() {
    let (mut board, now) = (Board::default(), Timestamp::UNIX_EPOCH);
    board.note_trouble(&pool(), FAILED, "the host is full".to_owned(), now);
    board.note_success(&pool(), Tier::InPlace, now);
    assert!(board.trouble(&pool()).is_some());
    board.note_success(&pool(), Tier::Fresh, now);
    assert!(board.trouble(&pool()).is_none());
}

fn with_one() -> (Board, SlotKey, mpsc::UnboundedReceiver<Command>) {
    let (mut board, key) = (Board::default(), SlotKey { pool_uid: pool(), slot: 0 });
    let (commands, received) = mpsc::unbounded_channel();
    let entry = Entry {
        name: DomainName::from_recorded("vm"),
        nonce: nonce(1),
        golden: GoldenKey::from_recorded("g"),
        size: Resources { vcpus: 1, memory_mib: 1, disk_gib: 1, cpu_shares: 1 },
        life: Life::Creating,
        reset: None,
        nic: None,
        resolvers: vec![],
        limits: None,
        usage: None,
        claiming: None,
        commands,
    };
    assert!(board.insert(key.clone(), entry));
    (board, key, received)
}

#[test]
fn a_machine_that_is_brought_back_is_another_one_to_the_run_that_had_it() {
    let (mut board, key, mut received) = with_one();
    let (run, proof) = (run(), ResetStatus { tier: "Fresh".into(), ..ResetStatus::default() });
    board.set_idle(&key, Idle { reset: proof.clone(), ..Idle::default() }, Timestamp::UNIX_EPOCH);
    let claim = board.acquire(&pool(), &run, &node()).unwrap();
    assert_eq!((claim.nonce, claim.reset), (nonce(1), Some(proof)));
    board.renew(&key, &nonce(2));
    assert!(board.attempt(&run, &nonce(1)).is_none() && board.attempt(&run, &nonce(2)).is_none());
    assert!(!board.tell_run(&run, Command::Release), "a second release doesn't reach it");
    board.retire(&pool(), &[0]);
    assert_eq!(board.seen(&pool())[&0], SlotSeen::Resetting);
    assert_eq!(
        (board.numbers(&pool()), board.acquire(&pool(), &run, &node()).is_none()),
        ((0, 1), true)
    );
    board.set_life(&key, Life::Quarantined { until: Timestamp::MAX });
    assert!(board.acquire(&pool(), &run, &node()).is_none(), "nobody gets what is in quarantine");
    board.retire(&pool(), &[0]);
    assert!(matches!(received.try_recv(), Ok(Command::Release)));
}

#[test]
fn a_claim_is_urgent_until_it_is_given_back_or_its_task_takes_over() {
    let (mut board, key, _received) = with_one();
    board.set_idle(&key, Idle::default(), Timestamp::UNIX_EPOCH);
    assert!(!board.is_idle(&SlotKey { slot: 1, ..key.clone() }) && board.is_idle(&key));
    board.acquire(&pool(), &run(), &node()).unwrap();
    assert!(board.claims.any() && !board.is_idle(&key));
    board.give_back(&run(), Timestamp::UNIX_EPOCH);
    assert!(!board.claims.any() && board.is_idle(&key));
    board.acquire(&pool(), &run(), &node()).unwrap();
    let claiming = board.take_claiming(&key);
    assert!(board.claims.any());
    drop(claiming);
    assert!(!board.claims.any());
}

#[test]
fn idle_machines_that_are_connected_in_another_way_are_named() {
    let (mut board, key, _received) = with_one();
    let (asked, other) = (Ipv4Addr::new(203, 0, 113, 53), Ipv4Addr::new(203, 0, 113, 54));
    let instance = agentvm_core::names::InstanceId::for_state_dir("/x");
    let nic = Nic::bridge(&instance, &DomainName::from_recorded("vm"), "br0");
    let wanted = |attachment, resolver| PoolNetwork { attachment, resolvers: vec![resolver] };
    let idle = Idle { nic: Some(nic), resolvers: vec![asked], ..Idle::default() };
    board.set_idle(&key, idle, Timestamp::UNIX_EPOCH);
    let bridge = || Attachment::Bridge("br0".into());
    assert!(board.otherwise_connected(&pool(), &wanted(bridge(), asked)).is_empty());
    assert_eq!(
        board.otherwise_connected(&pool(), &wanted(bridge(), other)),
        [0],
        "it asks somebody else for names"
    );
    assert_eq!(board.otherwise_connected(&pool(), &wanted(Attachment::Nat, asked)), [0]);
    board.acquire(&pool(), &run(), &node()).unwrap();
    assert!(
        board.otherwise_connected(&pool(), &wanted(Attachment::Nat, asked)).is_empty(),
        "a run has it"
    );
}

#[test]
fn machines_that_are_held_to_other_limits_are_named_until_they_are_told() {
    let (mut board, key, _received) = with_one();
    let (old, new) = (
        MachineLimits::default(),
        MachineLimits { cpu_quota_percent: Some(50), ..Default::default() },
    );
    let named = |board: &Board, wanted| board.otherwise_limited(&pool(), wanted).len();
    assert_eq!(named(&board, &new), 0, "who makes it knows");
    board.set_limits(&key, &nonce(1), old);
    board.set_idle(&key, Idle::default(), Timestamp::UNIX_EPOCH);
    assert_eq!((named(&board, &old), named(&board, &new)), (0, 1));
    board.acquire(&pool(), &run(), &node()).unwrap();
    assert_eq!(named(&board, &new), 1, "a run's too");
    board.set_limits(&key, &nonce(9), new);
    assert_eq!(named(&board, &new), 1, "that was said to the machine before");
    board.set_limits(&key, &nonce(1), new);
    assert_eq!(named(&board, &new), 0);
}
