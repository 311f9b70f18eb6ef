//! The rules and the taps themselves, in a network namespace: each test runs again in a new one.

mod bridged;
mod drained;
mod pending;
mod shares;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Instant;

use agentvm_core::names::DomainName;
use agentvm_core::network::{Link, LinkLimits, Nic, Policy, rules};
use agentvm_testing::wait_until;
use agentvm_types::{OwnerUid, PoolUid};

use super::netlink::device;
use super::*;
use crate::{MachineKind, MachineRecord, Traffic};

const OWNER: &str = "pool-uid";

/// `false` when the test ran inside, and passed; `true` there.
fn inside(test: &str) -> bool {
    inside_with(test, &[])
}

fn inside_with(test: &str, environment: &[(&str, String)]) -> bool {
    let inside = in_test_namespace::inside(module_path!(), test, environment);
    if inside {
        let _ = tracing_subscriber::fmt()
            .with_env_filter("agentvm_hypervisor=debug")
            .with_test_writer()
            .try_init();
    }
    inside
}

fn said(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

struct Lab {
    firewall: Arc<Firewall>,
    subnet: Subnet,
    machines: Vec<MachineRecord>,
}

fn policies() -> BTreeMap<OwnerUid, Policy> {
    let limits =
        LinkLimits { bytes_per_second: Some(1 << 20), packets_per_second: 1000, connections: 64 };
    let policy = Policy {
        generation: 1,
        ipv6: false,
        allow: Vec::new(),
        resolvers: vec![Ipv4Addr::new(203, 0, 113, 53)],
        limits,
    };
    BTreeMap::from([(OwnerUid::new(OWNER), policy)])
}

impl Lab {
    /// A bridge, and so many taps in it that are down.
    fn new(count: usize) -> Self {
        let instance = InstanceId::for_state_dir("/firewall-test");
        let subnet =
            Subnet { bridge: "lab0".into(), gateway: Ipv4Addr::new(192, 168, 101, 1), prefix: 24 };
        let firewall = Arc::new(Firewall::new(&instance));
        said("ip", &format!("link add lab0 address {} type bridge", firewall.gateway_mac()));
        said("ip", "addr add 192.168.101.1/24 dev lab0");
        said("ip", "link set lab0 up");
        let machines =
            subnet.machines().take(count).zip(0..).map(|(address, slot)| MachineRecord {
                owner_uid: OwnerUid::new(OWNER),
                slot,
                kind: MachineKind::Pool,
                name: DomainName::for_slot(&instance, &PoolUid::new(OWNER), slot),
                nic: Some(Nic::nat(&instance, &subnet, address)),
                ..crate::libvirt::example_record()
            });
        let lab = Self { firewall, machines: machines.collect(), subnet: subnet.clone() };
        for machine in &lab.machines {
            said("ip", &format!("tuntap add {} mode tap", lab.link(machine).nic.tap));
            said("ip", &format!("link set {} master lab0", lab.link(machine).nic.tap));
        }
        lab
    }

    #[expect(clippy::unused_self, reason = "it reads as a question to the lab")]
    fn link(&self, machine: &MachineRecord) -> Link {
        Link { nic: machine.nic.clone().unwrap(), owner_uid: machine.owner_uid.clone() }
    }

    fn enforce(&self) {
        let refused = self.firewall.enforce(&self.subnet, policies(), &[], &self.machines).unwrap();
        assert!(refused.is_empty(), "{refused:?}");
    }

    fn open(&self, machine: &MachineRecord) {
        self.firewall.admit(&machine.name, &self.link(machine)).unwrap();
    }

    fn is_up(&self, machine: &MachineRecord) -> bool {
        device::is_up(&self.link(machine).nic.tap).unwrap().unwrap()
    }

    /// Whether the rules know the machine.
    fn is_in(&self, machine: &MachineRecord) -> bool {
        let table = format!("list set bridge {} pinned", self.firewall.table().name());
        said("nft", &table).contains(&format!("\"{}\"", self.link(machine).nic.tap))
    }
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn a_link_is_open_between_open_and_close_and_never_without_a_policy() {
    if !inside("a_link_is_open_between_open_and_close_and_never_without_a_policy") {
        return;
    }
    let lab = Lab::new(2);
    let [one, other] = &lab.machines[..] else { unreachable!() };
    lab.firewall.guard(&lab.subnet).unwrap();
    assert_eq!(lab.firewall.in_force(), None, "no policy was given yet");
    let why = lab.firewall.admit(&one.name, &lab.link(one)).unwrap_err();
    assert!(
        matches!(&why, HvError::NetworkUnavailable { .. }) && why.to_string().contains("no policy"),
        "{why}"
    );
    assert!(!lab.is_up(one) && !lab.is_in(one), "without a policy nobody talks");
    lab.enforce();
    assert_eq!(*lab.firewall.in_force().unwrap(), policies());
    lab.open(one);
    lab.open(one);
    assert!(lab.is_up(one) && lab.is_in(one) && !lab.is_up(other) && !lab.is_in(other));
    lab.enforce();
    assert!(lab.is_up(one) && lab.is_in(one), "new rules keep open links");
    assert_eq!(lab.firewall.traffic(&one.name, &lab.link(one)).unwrap().allowed, 0);
    assert_eq!(
        lab.firewall.traffic(&other.name, &lab.link(other)).unwrap(),
        Traffic::default(),
        "never opened"
    );
    lab.firewall.cut_off(&one.name, &lab.link(one)).unwrap();
    lab.firewall.cut_off(&one.name, &lab.link(one)).unwrap();
    assert!(!lab.is_up(one) && !lab.is_in(one));
    lab.open(other);
    lab.firewall.enforce(&lab.subnet, BTreeMap::new(), &[], &[]).unwrap();
    assert!(!lab.is_up(other) && !lab.is_in(other), "its owner has no policy any more");
    assert!(lab.firewall.in_force().unwrap().is_empty());
    lab.firewall.remove().unwrap();
    assert_eq!(said("nft", "list tables"), "");
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn a_machine_on_a_bridge_of_the_host_is_held_by_its_device() {
    if !inside("a_machine_on_a_bridge_of_the_host_is_held_by_its_device") {
        return;
    }
    let lab = Lab::new(0);
    let name =
        DomainName::for_slot(&InstanceId::for_state_dir("/firewall-test"), &PoolUid::new(OWNER), 0);
    let nic = Nic::bridge(&InstanceId::for_state_dir("/firewall-test"), &name, "br0");
    let link = Link { nic: nic.clone(), owner_uid: OwnerUid::new(OWNER) };
    said("ip", "link add br0 type bridge");
    said("ip", &format!("tuntap add {} mode tap", nic.tap));
    said("ip", &format!("link set {} master br0", nic.tap));
    lab.enforce();
    let is_in = || {
        let table = lab.firewall.table().name();
        said("nft", &format!("list set bridge {table} stations"))
            .contains(&format!("\"{}\" . {}", nic.tap, nic.mac))
    };
    lab.firewall.admit(&name, &link).unwrap();
    assert!(is_in() && device::is_up(&nic.tap).unwrap().unwrap());
    lab.enforce();
    assert!(is_in(), "new rules keep it");
    assert_eq!(
        lab.firewall.traffic(&name, &link).unwrap().allowed,
        0,
        "there is nothing to count connections by"
    );
    lab.firewall.cut_off(&name, &link).unwrap();
    assert!(!is_in() && !device::is_up(&nic.tap).unwrap().unwrap());
    said("ip", &format!("link delete {}", nic.tap));
    assert!(lab.firewall.admit(&name, &link).unwrap_err().to_string().contains("can't be set up"));
    assert!(!is_in(), "a link that doesn't open isn't half open");
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn links_that_another_process_left_open_stay_open_and_others_do_not() {
    if !inside("links_that_another_process_left_open_stay_open_and_others_do_not") {
        return;
    }
    let mut lab = Lab::new(2);
    lab.enforce();
    lab.open(&lab.machines[0]);
    lab.open(&lab.machines[1]);
    // Killed between the two halves of closing one.
    device::set_down(&lab.link(&lab.machines[1]).nic.tap).unwrap();
    let next = Arc::new(Firewall::new(&InstanceId::for_state_dir("/firewall-test")));
    let before = Arc::downgrade(&std::mem::replace(&mut lab.firewall, next));
    wait_until("the watch of the one before lets it go", || before.strong_count() == 0);
    lab.firewall.guard(&lab.subnet).unwrap();
    assert!(lab.is_in(&lab.machines[0]), "what is there already guards");
    assert!(lab.firewall.is_new());
    lab.enforce();
    assert!(lab.is_up(&lab.machines[0]) && lab.is_in(&lab.machines[0]));
    assert!(!lab.is_up(&lab.machines[1]) && !lab.is_in(&lab.machines[1]));
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn rules_that_somebody_removes_are_put_back_and_others_are_left_alone() {
    if !inside("rules_that_somebody_removes_are_put_back_and_others_are_left_alone") {
        return;
    }
    let lab = Lab::new(1);
    let machine = &lab.machines[0];
    lab.enforce();
    lab.open(machine);
    let table = lab.firewall.table().name().to_owned();
    let rules = |family: &str| said("nft", &format!("-s list table {family} {table}"));
    let whole = (rules("bridge"), rules("inet"));
    let deeds = [
        "flush ruleset".to_owned(),
        format!("flush table inet {table}"),
        format!("delete table bridge {table}"),
        format!("insert rule inet {table} forward accept"),
        format!("add element inet {table} linked {{ 192.168.101.77 }}"),
    ];
    for deed in deeds {
        said("nft", "add table inet somebody");
        let began = Instant::now();
        said("nft", &deed);
        let there = |family| {
            Command::new("nft")
                .args(["-s", "list", "table", family, &table])
                .output()
                .unwrap()
                .stdout
        };
        let as_before = (whole.0.clone().into_bytes(), whole.1.clone().into_bytes());
        wait_until(&format!("{deed} is mended"), || {
            (there("bridge"), there("inet")) == as_before && lab.is_up(machine)
        });
        println!(
            "measured: put back after \"{}\": {} ms",
            deed.replace(&table, "TABLE"),
            began.elapsed().as_millis()
        );
        assert_eq!(
            said("nft", "list tables").contains("somebody"),
            deed != "flush ruleset",
            "never anybody else's rules"
        );
    }
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn nobody_talks_between_the_removal_of_the_rules_and_their_return() {
    if !inside("nobody_talks_between_the_removal_of_the_rules_and_their_return") {
        return;
    }
    let lab = Lab::new(4);
    let [one, reset, ended, closed] = &lab.machines[..] else { unreachable!() };
    lab.enforce();
    for machine in [one, reset, ended] {
        lab.open(machine);
    }
    // Nothing can be repaired while this is held: the test sees the state until the rules are back.
    let busy = lock(&lab.firewall.state);
    said("nft", &format!("delete table bridge {}", lab.firewall.table().name()));
    let began = Instant::now();
    wait_until("everybody is cut off", || {
        ![one, reset, ended].into_iter().any(|machine| lab.is_up(machine))
    });
    println!("measured: cut off after the rules were removed: {:?}", began.elapsed());
    assert!(!said("nft", "list tables").contains("bridge"), "the rules are still gone");
    lab.firewall.set_tap_down(&lab.link(reset).nic.tap).unwrap();
    said("ip", &format!("link delete {}", lab.link(ended).nic.tap));
    drop(busy);
    wait_until("who was connected is again", || lab.is_up(one));
    assert!(lab.is_in(one), "with rules");
    assert!(!lab.is_up(reset), "set down meanwhile, by a reset");
    assert!(!lab.is_up(closed), "never was connected");
    lab.open(reset);
    lab.open(closed);
    assert!(lab.is_up(reset) && lab.is_up(closed));
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn who_is_connected_while_the_rules_are_gone_has_them_made_first() {
    if !inside("who_is_connected_while_the_rules_are_gone_has_them_made_first") {
        return;
    }
    let lab = Lab::new(2);
    let [one, other] = &lab.machines[..] else { unreachable!() };
    lab.enforce();
    lab.open(one);
    let table = lab.firewall.table().name();
    lab.firewall.hold();
    assert!(!lab.is_up(one));
    // A rule that permits everything: adding a machine to the sets succeeds all the same.
    said("nft", &format!("insert rule bridge {table} from_taps accept"));
    lab.open(other);
    assert!(lab.is_up(one) && lab.is_up(other));
    let first = said("nft", &format!("list chain bridge {table} from_taps"));
    assert!(!first.contains("\t\taccept\n"), "{first}");
}

/// The number of a busy host's links. `agentvm bench network` measures their cost.
#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn each_of_64_links_is_opened_and_closed_by_itself() {
    if !inside("each_of_64_links_is_opened_and_closed_by_itself") {
        return;
    }
    let lab = Lab::new(64);
    lab.enforce();
    let table = lab.firewall.table().name();
    let connected = || {
        let pinned = said("nft", &format!("list set bridge {table} pinned"));
        let is_so = |machine: &&MachineRecord| {
            let there = pinned.contains(&format!("\"{}\"", lab.link(machine).nic.tap));
            assert_eq!(lab.is_up(machine), there, "{machine:?}");
            there
        };
        lab.machines.iter().filter(is_so).map(|machine| machine.slot).collect::<Vec<_>>()
    };
    let open_all = |machines: &[&MachineRecord]| {
        for machine in machines {
            lab.open(machine);
        }
    };
    let close_all = |machines: &[&MachineRecord]| {
        for machine in machines {
            lab.firewall.cut_off(&machine.name, &lab.link(machine)).unwrap();
        }
    };
    let (odd, even): (Vec<_>, Vec<_>) =
        lab.machines.iter().partition(|machine| machine.slot % 2 == 1);
    let slots = |machines: &[&MachineRecord]| {
        machines.iter().map(|machine| machine.slot).collect::<Vec<_>>()
    };
    open_all(&odd);
    assert_eq!(connected(), slots(&odd));
    open_all(&even);
    assert_eq!(connected().len(), 64);
    for machine in &lab.machines {
        let counted = lab.firewall.traffic(&machine.name, &lab.link(machine)).unwrap();
        assert_eq!((counted.allowed, counted.denied), (0, 0), "each has counters of its own");
    }
    close_all(&odd);
    assert_eq!(connected(), slots(&even));
    lab.enforce();
    assert_eq!(connected(), slots(&even), "all rules anew, and who was connected still is");
    open_all(&odd[..1]);
    assert_eq!(connected().len(), 33, "one that was closed, with the others open");
    close_all(&[&odd[..1], &even].concat());
    assert_eq!(connected(), Vec::<u32>::new());
}
