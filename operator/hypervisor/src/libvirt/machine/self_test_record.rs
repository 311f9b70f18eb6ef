//! The machine of a golden's self-test: its record and its parts.

use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use agentvm_core::golden::DeviceLayout;
use agentvm_core::names::{DomainName, InstanceId, short_hash};
use agentvm_core::network::{Nic, Table, Wire, derive_mac};
use agentvm_types::{Nonce, OwnerUid, PoolUid, Token};

use crate::libvirt::host::at_work::AtWork;
use crate::libvirt::store::goldens::Whole;
use crate::{MachineKind, MachineLimits, MachineRecord, MachineSpec, Tier};
use agentvm_core::network::SUBNET_PREFIX;

/// The owner of these machines, in the place of an owner's UID.
const OWNER: &str = "self-test";
const SHARE_BYTES: u64 = 4 << 20;

/// Machines of self-tests belong to no object.
pub fn is_test(record: &MachineRecord) -> bool {
    record.owner_uid.as_str() == OWNER
}

/// This name stands for the whole test among the machines at work; parts of the test have names of
/// their own.
pub fn marker(name: &DomainName) -> DomainName {
    DomainName::from_recorded(format!("{OWNER} {name}"))
}

/// Is this process testing with the machine right now?
pub fn is_testing(at_work: &AtWork, name: &DomainName) -> bool {
    at_work.contains(&marker(name))
}

pub fn spec(instance: &InstanceId, whole: &Whole) -> MachineSpec {
    let key = &whole.golden.key;
    let (instance, now) =
        (instance.clone(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    let name = DomainName::for_slot(&instance, &PoolUid::new(format!("{OWNER} {key}")), 0);
    let nic = (whole.captured.devices == DeviceLayout::Nic).then(|| nic(&instance, &name));
    let record = MachineRecord {
        name,
        instance,
        kind: MachineKind::Pool,
        namespace: String::new(),
        owner: OWNER.to_owned(),
        owner_uid: OwnerUid::new(OWNER),
        slot: 0,
        golden: key.clone(),
        nonce: Nonce::from_bytes(now.as_nanos().to_be_bytes()),
        token: Token::default(),
        created: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        nic,
    };
    MachineSpec {
        record,
        share_bytes: SHARE_BYTES,
        tier: Tier::InPlace,
        limits: MachineLimits::default(),
    }
}

/// The device of a machine that only tests a reset: it is never connected, so it needs no address.
fn nic(instance: &InstanceId, name: &DomainName) -> Nic {
    let none = Ipv4Addr::UNSPECIFIED;
    Nic {
        tap: format!(
            "{}t{}",
            Table::of(instance).tap_prefix(),
            short_hash(&["tap", name.as_str()], 6)
        ),
        mac: derive_mac(&["self-test", name.as_str()]),
        wire: Wire::Nat { address: none, prefix: SUBNET_PREFIX, gateway: none, ipv6: None },
    }
}
