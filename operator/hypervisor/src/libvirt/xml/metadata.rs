//! The record of a machine as metadata of its domain. The token isn't in it: anyone who may read domains may read this.

use super::element::{Element, el, text_of};
use crate::{HvError, MachineRecord};

/// The namespace of our element.
pub const NAMESPACE: &str = "https://agentvm.dev/machine/1";

pub fn element(record: &MachineRecord) -> Result<Element, HvError> {
    let public = MachineRecord { token: String::new(), ..record.clone() };
    let json = serde_json::to_string(&public).map_err(|e| HvError::Refused {
        what: format!("write the record of {}", record.name),
        detail: e.to_string(),
    })?;
    Ok(el("agentvm:machine")
        .attr("xmlns:agentvm", NAMESPACE)
        .attr("instance", &record.instance)
        .text(json))
}

/// `None`: not ours, or not in a form that this version writes.
pub fn parse(element: &str) -> Option<MachineRecord> {
    serde_json::from_str(&text_of(element, "machine")?).ok()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::MachineKind;
    use agentvm_core::names::{DomainName, GoldenKey, InstanceId};

    pub fn record(owner: &str) -> MachineRecord {
        let instance = InstanceId::for_state_dir("/var/lib/agentvm");
        MachineRecord {
            name: DomainName::for_slot(&instance, "uid", 3),
            instance,
            kind: MachineKind::Pool,
            namespace: "default".to_owned(),
            owner: owner.to_owned(),
            owner_uid: "7b0c".to_owned(),
            slot: 3,
            golden: GoldenKey::derive(&["golden"]),
            nonce: "0123456789abcdef0123456789abcdef".to_owned(),
            token: "secret".to_owned(),
            created: 1_700_000_000,
            nic: None,
        }
    }

    #[test]
    fn a_record_is_read_back_without_its_token() {
        let written = record("a pool & <its> \"name\"");
        let text = element(&written).unwrap().render().unwrap();
        assert!(!text.contains("secret"));
        assert_eq!(parse(&text).unwrap(), MachineRecord { token: String::new(), ..written });
        assert_eq!(parse("<a/>"), None);
    }
}
