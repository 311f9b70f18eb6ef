//! The rules against an attacker that is only a namespace. The tests take seconds and need no other
//! part of the product.

use agentvm_core::network::{Allow, PortRange, Protocol};

use crate::attacks;
use crate::lab::{Lab, ip, nft};

#[tokio::test]
async fn an_attacker_in_a_namespace_gets_nowhere() {
    let lab = Lab::new();
    lab.connect();
    let (ground, mut machine) = (lab.ground(), lab.machine(0));
    attacks::prepare(&ground, &mut machine).await;
    attacks::reaches_the_internet(&ground, &mut machine).await;
    attacks::reaches_nothing_else(&ground, &mut machine).await;
    attacks::follows_no_name(&ground, &mut machine).await;
    attacks::reaches_no_host(&ground, &mut machine).await;
    attacks::reaches_no_machine(&ground, &mut machine).await;
    attacks::sends_no_frame(&ground, &mut machine).await;
    attacks::took_nobodys_place(&ground);
    assert_eq!(lab.internet.escaped(), 0);
}

#[tokio::test]
async fn a_machine_that_is_not_linked_is_told_nothing() {
    let mut lab = Lab::new();
    // The rules are there, the tap is up by some mistake, and the machine isn't in the sets.
    let links = std::mem::take(&mut lab.links);
    nft(&lab.rules());
    lab.links = links;
    ip(&format!("link set {} up", lab.links[0].nic.tap));
    let (ground, mut machine) = (lab.ground(), lab.machine(0));
    attacks::prepare(&ground, &mut machine).await;
    attacks::reaches_nothing(&ground, &mut machine).await;
    lab.connect();
    attacks::reaches_the_internet(&ground, &mut machine).await;
}

#[tokio::test]
async fn a_connection_outlives_an_edited_policy_unless_it_is_denied() {
    let mut lab = Lab::new();
    let more = Allow {
        protocol: Protocol::Tcp,
        ports: vec![PortRange { first: 8080, last: 8080 }],
        cidrs: Vec::new(),
    };
    lab.policies.get_mut("pool-one").unwrap().allow.push(more);
    lab.connect();
    lab.policies.get_mut("pool-one").unwrap().allow.clear();
    let (ground, mut machine) = (lab.ground(), lab.machine(0));
    attacks::prepare(&ground, &mut machine).await;
    attacks::a_policy_is_tightened(&ground, &mut machine, || async { nft(&lab.rules_kept()) })
        .await;
}
