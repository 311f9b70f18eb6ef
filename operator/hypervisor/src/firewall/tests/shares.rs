//! Each owner's policy holds or fails alone, and leaves nothing behind.

use super::*;

const OTHER: &str = "other-pool";

/// A policy that no kernel takes: a rate of nothing.
fn impossible(generation: i64) -> Policy {
    let limits = LinkLimits { bytes_per_second: None, packets_per_second: 0, connections: 64 };
    Policy { generation, limits, ..policies()[OWNER].clone() }
}

fn rules(lab: &Lab) -> String {
    let table = lab.firewall.table().name();
    ["bridge", "inet"]
        .map(|family| said("nft", &format!("-s list table {family} {table}")))
        .concat()
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn a_policy_that_fails_is_its_owners_and_all_others_go_on() {
    if !inside("shares::a_policy_that_fails_is_its_owners_and_all_others_go_on") {
        return;
    }
    let mut lab = Lab::new(2);
    let [one, two] = [0, 1].map(|at| lab.machines[at].clone());
    let (one, two) = (&one, &two);
    // At the start, when the whole table is written.
    let mut both = policies();
    both.insert(OwnerUid::new(OTHER), impossible(1));
    let refused = lab.firewall.enforce(&lab.subnet, both, &[], &lab.machines).unwrap();
    assert_eq!(refused.into_keys().collect::<Vec<_>>(), [OwnerUid::new(OTHER)]);
    assert_eq!(*lab.firewall.in_force().unwrap(), policies());
    lab.open(one);
    let stranger = Link { owner_uid: OwnerUid::new(OTHER), ..lab.link(two) };
    lab.firewall.admit(&two.name, &stranger).unwrap_err();
    assert!(lab.is_up(one) && !lab.is_up(two), "without rules in force no link opens");
    // Alone, later.
    lab.firewall.enforce_one(&OwnerUid::new(OTHER), Some(impossible(2))).unwrap_err();
    assert_eq!(*lab.firewall.in_force().unwrap(), policies());
    let before = rules(&lab);
    lab.firewall.enforce_one(&OwnerUid::new(OWNER), Some(impossible(3))).unwrap_err();
    assert_eq!(rules(&lab), before, "the earlier rules hold");
    assert_eq!(*lab.firewall.in_force().unwrap(), policies());
    assert!(lab.is_up(one) && lab.is_in(one));
    // Taken over by another process, with an impossible policy beside the one of an open link.
    let next = Arc::new(Firewall::new(&InstanceId::for_state_dir("/firewall-test")));
    let before = Arc::downgrade(&std::mem::replace(&mut lab.firewall, next));
    wait_until("the watch of the one before lets it go", || before.strong_count() == 0);
    let mut both = policies();
    both.insert(OwnerUid::new(OTHER), impossible(4));
    assert_eq!(lab.firewall.enforce(&lab.subnet, both, &[], &lab.machines).unwrap().len(), 1);
    assert!(lab.is_up(one) && lab.is_in(one), "its link stays open");
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn edits_of_limits_leave_no_set_behind_and_a_policy_that_goes_leaves_nothing() {
    if !inside("shares::edits_of_limits_leave_no_set_behind_and_a_policy_that_goes_leaves_nothing")
    {
        return;
    }
    let lab = Lab::new(1);
    lab.enforce();
    lab.open(&lab.machines[0]);
    let first = rules(&lab);
    let owner = OwnerUid::new(OWNER);
    for round in 1..20 {
        let mut policy = policies()[OWNER].clone();
        policy.limits.packets_per_second += round;
        policy.limits.connections += round * 4;
        policy.limits.bytes_per_second = (round % 2 == 0).then_some(u64::from(round) << 20);
        policy.ipv6 = round % 3 == 0;
        lab.firewall.enforce_one(&owner, Some(policy.clone())).unwrap();
        let other = OwnerUid::new(format!("{OTHER}-{round}"));
        lab.firewall.enforce_one(&other, Some(policy)).unwrap();
        lab.firewall.enforce_one(&other, None).unwrap();
    }
    lab.firewall.enforce_one(&owner, Some(policies()[OWNER].clone())).unwrap();
    // The kernel lists sets and chains in the order in which they were made.
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&rules(&lab)), sorted(&first));
    assert!(lab.is_up(&lab.machines[0]) && lab.is_in(&lab.machines[0]));
    lab.firewall.enforce_one(&owner, None).unwrap();
    assert!(!lab.is_up(&lab.machines[0]) && !lab.is_in(&lab.machines[0]));
    assert!(!rules(&lab).contains("packets_"), "{}", rules(&lab));
}
