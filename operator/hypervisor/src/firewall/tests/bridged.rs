//! On a bridge of the host: the address that a machine may use, the settings of its port, and the
//! host's addresses in the rules.

use agentvm_testing::wait_until;
use agentvm_types::{OwnerUid, PoolUid};
use std::net::UdpSocket;

use super::*;

/// The bridge's, which is the host's.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const GIVEN: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 40);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 41);

/// A bridge with two machines, and a DHCP server that answers as it is told.
struct Lan {
    lab: Lab,
    machines: Vec<MachineRecord>,
    server: UdpSocket,
}

impl Lan {
    fn new() -> Self {
        let lab = Lab::new(0);
        said("ip", "link add br0 type bridge");
        said("ip", &format!("addr add {HOST}/24 dev br0"));
        said("ip", "link set br0 up");
        said("ip", "route add 255.255.255.255 dev br0");
        let instance = InstanceId::for_state_dir("/firewall-test");
        let machine = |slot| {
            let name = DomainName::for_slot(&instance, &PoolUid::new(OWNER), slot);
            let nic = Some(Nic::bridge(&instance, &name, "br0"));
            MachineRecord {
                owner_uid: OwnerUid::new(OWNER),
                name,
                nic,
                ..crate::libvirt::example_record()
            }
        };
        let machines: Vec<MachineRecord> = [machine(0), machine(1)].to_vec();
        for (machine, far) in machines.iter().zip(["far0", "far1"]) {
            let tap = &lab.link(machine).nic.tap;
            // A tap that no process holds open has no carrier, and receives nothing.
            said("ip", &format!("link add {tap} type veth peer name {far}"));
            said("ip", &format!("link set {far} up"));
            said("ip", &format!("link set {tap} master br0"));
        }
        let server = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)).unwrap();
        server.set_broadcast(true).unwrap();
        let lan = Self { lab, machines, server };
        lan.enforce();
        lan
    }

    fn enforce(&self) {
        self.lab.firewall.enforce(&self.lab.subnet, policies(), &[], &self.machines).unwrap();
    }

    fn link(&self, machine: usize) -> Link {
        self.lab.link(&self.machines[machine])
    }

    fn open(&self, machine: usize) {
        self.lab.firewall.admit(&self.machines[machine].name, &self.link(machine)).unwrap();
        let port = format!("link show dev {}", self.link(machine).nic.tap);
        wait_until("the bridge has seen that it is up", || {
            said("bridge", &port).contains("state forwarding")
        });
    }

    /// The answer of a server to a client without an address.
    fn gives(&self, machine: usize, address: Ipv4Addr) {
        let mut answer = [0; 300];
        answer[..3].copy_from_slice(&[2, 1, 6]);
        answer[16..20].copy_from_slice(&address.octets());
        answer[28..34].copy_from_slice(&self.link(machine).nic.mac.bytes());
        answer[236..243].copy_from_slice(&[0x63, 0x82, 0x53, 0x63, 53, 1, 5]);
        self.server.send_to(&answer, (Ipv4Addr::BROADCAST, 68)).unwrap();
    }

    /// Why not, where it may not.
    fn lease(&self, machine: usize, address: Ipv4Addr) -> Result<(), String> {
        let leased =
            self.lab.firewall.lease(&self.machines[machine].name, &self.link(machine), address);
        leased.map_err(|why| why.to_string())
    }

    fn refused(&self, machine: usize, address: Ipv4Addr, why: &str) {
        let said = self.lease(machine, address).unwrap_err();
        assert!(said.contains(why), "{said}");
    }

    fn rules(&self, what: &str) -> String {
        let mut command = Command::new("nft");
        let output =
            command.args(["list", what, "bridge", self.lab.firewall.table().name()]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    fn leased(&self) -> Vec<(String, Ipv4Addr)> {
        let said =
            said("nft", &format!("list set bridge {} leased", self.lab.firewall.table().name()));
        rules::listed_leases(&said).into_iter().map(|lease| (lease.tap, lease.address)).collect()
    }

    fn of(&self, machine: usize, address: Ipv4Addr) -> Vec<(String, Ipv4Addr)> {
        vec![(self.link(machine).nic.tap, address)]
    }
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn a_machine_has_the_address_that_a_server_was_heard_giving_it_and_no_other() {
    if !inside("bridged::a_machine_has_the_address_that_a_server_was_heard_giving_it_and_no_other")
    {
        return;
    }
    let lan = Lan::new();
    lan.refused(0, GIVEN, "it is not connected");
    lan.open(0);
    lan.open(1);
    lan.refused(0, GIVEN, "no DHCP server on br0 was heard");
    lan.gives(1, GIVEN);
    lan.refused(0, GIVEN, "no DHCP server on br0 was heard");
    lan.gives(0, GIVEN);
    lan.lease(0, GIVEN).unwrap();
    lan.lease(0, GIVEN).unwrap();
    assert_eq!(lan.leased(), lan.of(0, GIVEN));
    lan.refused(1, GIVEN, "another machine here has it");
    lan.gives(0, HOST);
    lan.refused(0, HOST, "it is the host's own");
    lan.refused(0, Ipv4Addr::new(224, 0, 0, 1), "no machine may have it");
    lan.gives(0, OTHER);
    assert_eq!(lan.leased(), lan.of(0, GIVEN), "what a server says changes nothing by itself");
    lan.lease(0, OTHER).unwrap();
    assert_eq!(lan.leased(), lan.of(0, OTHER));
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn a_lease_is_there_as_long_as_its_link() {
    if !inside("bridged::a_lease_is_there_as_long_as_its_link") {
        return;
    }
    let mut lan = Lan::new();
    lan.open(0);
    lan.gives(0, GIVEN);
    lan.lease(0, GIVEN).unwrap();
    lan.enforce();
    assert_eq!(lan.leased(), lan.of(0, GIVEN), "new rules keep it");
    said("nft", &format!("delete table bridge {}", lan.lab.firewall.table().name()));
    wait_until("the rules are put back", || lan.rules("table").contains("chain"));
    assert_eq!(lan.leased(), lan.of(0, GIVEN), "rules that are put back have it");
    let next = Arc::new(Firewall::new(&InstanceId::for_state_dir("/firewall-test")));
    let before = Arc::downgrade(&std::mem::replace(&mut lan.lab.firewall, next));
    wait_until("the watches of the one before hold it", || before.strong_count() == 0);
    lan.enforce();
    assert_eq!(lan.leased(), lan.of(0, GIVEN), "an operator that was restarted finds it");
    lan.open(0);
    assert_eq!(lan.leased(), lan.of(0, GIVEN), "open is open");
    lan.lab.firewall.set_tap_down(&lan.link(0).nic.tap).unwrap();
    lan.open(0);
    assert_eq!(lan.leased(), vec![], "a machine that was reset has none");
    lan.gives(0, OTHER);
    lan.lease(0, OTHER).unwrap();
    lan.lab.firewall.cut_off(&lan.machines[0].name, &lan.link(0)).unwrap();
    assert_eq!(lan.leased(), vec![]);
    lan.refused(0, OTHER, "it is not connected");
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn the_rules_know_the_host_s_addresses_and_its_port_what_a_guest_may_not_say() {
    if !inside("bridged::the_rules_know_the_host_s_addresses_and_its_port_what_a_guest_may_not_say")
    {
        return;
    }
    let lan = Lan::new();
    let knows = |address: &str| lan.rules("table").contains(&format!(" {address}"));
    assert!(
        knows("10.9.0.1") && knows("192.168.101.0/24") && !knows("198.51.100.7"),
        "{}",
        lan.rules("table")
    );
    said("ip", "link add wan0 type bridge");
    said("ip", "addr add 198.51.100.7/24 dev wan0");
    lan.open(0);
    assert!(knows("198.51.100.7"), "it is looked at when a machine is connected");
    said("ip", "addr add 198.51.100.70/24 dev wan0");
    wait_until("a new address is known", || knows("198.51.100.70"));
    said("ip", "link delete wan0");
    wait_until("one that is gone is forgotten", || !knows("198.51.100.7"));
    let (tap, mac) = (lan.link(0).nic.tap, lan.link(0).nic.mac);
    let port = said("bridge", &format!("-d link show dev {tap}"));
    assert!(port.contains("guard on") && port.contains("learning off"), "{port}");
    let who = said("bridge", "fdb show br br0");
    assert!(
        who.lines()
            .any(|line| line.contains(&format!("{mac} dev {tap}")) && line.contains("sticky")),
        "{who}"
    );
}
