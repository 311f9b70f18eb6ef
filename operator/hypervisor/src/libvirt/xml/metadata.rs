//! The record of a machine as metadata of its domain. It does not contain the token, because every
//! reader of domains may read it.

use super::element::{Element, el, text_of};
use crate::{HvError, MachineRecord};
use agentvm_types::{Nonce, Token};

/// The namespace of our element.
pub const NAMESPACE: &str = "https://agentvm.dev/machine/1";

pub fn element(record: &MachineRecord) -> Result<Element, HvError> {
    let public = MachineRecord { token: Token::default(), ..record.clone() };
    let json = serde_json::to_string(&public)
        .map_err(HvError::failed(format!("write the record of {}", record.name)))?;
    Ok(el("agentvm:machine")
        .attr("xmlns:agentvm", NAMESPACE)
        .attr("instance", &record.instance)
        .text(json))
}

/// The nonce of a machine whose own nonce is damaged: no agent and no attempt has it.
const UNKNOWN: [u8; 16] = [0xff; 16];

/// `None`: not ours, or not in a form that this version writes.
///
/// A record whose nonce alone is damaged is still the record of a machine of ours. It must be
/// found, so that the machine is ended and its files are not swept under it. No attempt matches its
/// nonce.
pub fn parse(element: &str) -> Option<MachineRecord> {
    let json = text_of(element, "machine")?;
    serde_json::from_str(&json).ok().or_else(|| without_nonce(&json))
}

fn without_nonce(json: &str) -> Option<MachineRecord> {
    let mut record: serde_json::Value = serde_json::from_str(json).ok()?;
    let nonce = record.get_mut("nonce").filter(|nonce| nonce.is_string())?;
    *nonce = Nonce::from_bytes(UNKNOWN).as_str().into();
    serde_json::from_value(record).ok()
}

#[cfg(test)]
pub mod tests {
    use agentvm_types::{OwnerUid, PoolUid};

    use super::*;
    use crate::MachineKind;
    use agentvm_core::names::{DomainName, GoldenKey, InstanceId};

    pub fn record(owner: &str) -> MachineRecord {
        let instance = InstanceId::for_state_dir("/var/lib/agentvm");
        MachineRecord {
            name: DomainName::for_slot(&instance, &PoolUid::new("uid"), 3),
            instance,
            kind: MachineKind::Pool,
            namespace: "default".to_owned(),
            owner: owner.to_owned(),
            owner_uid: OwnerUid::new("7b0c"),
            slot: 3,
            golden: GoldenKey::derive(&["golden"]),
            nonce: "0123456789abcdef0123456789abcdef".parse().unwrap(),
            token: Token::new("secret"),
            created: 1_700_000_000,
            nic: None,
        }
    }

    #[test]
    fn a_record_is_read_back_without_its_token() {
        let written = record("a pool & <its> \"name\"");
        let text = element(&written).unwrap().render().unwrap();
        assert!(!text.contains("secret"));
        assert_eq!(parse(&text).unwrap(), MachineRecord { token: Token::default(), ..written });
        assert_eq!(parse("<a/>"), None);
    }

    #[test]
    fn a_machine_whose_nonce_is_damaged_is_found_and_has_the_nonce_of_no_attempt() {
        let written = record("pool");
        let text = element(&written).unwrap().render().unwrap();
        for damaged in ["", "0123", "0123456789abcdef0123456789abcdeX"] {
            let nonce = Nonce::from_bytes(UNKNOWN);
            let found = parse(&text.replace(written.nonce.as_str(), damaged)).unwrap();
            let expected = MachineRecord { nonce, token: Token::default(), ..written.clone() };
            assert_eq!(found, expected, "{damaged:?}");
        }
        assert_eq!(parse(&text.replace("nonce", "once")), None, "another form");
    }

    /// Machines live longer than the operator that made them: every later version must read these
    /// texts.
    #[test]
    fn the_form_on_disk_does_not_change() {
        use agentvm_core::network::Nic;

        let isolated = record("pool");
        let text = r#"{"name":"avm-be7e8f1c-3a88ef97-3","instance":"be7e8f1c","kind":"Pool","namespace":"default",
            "owner":"pool","ownerUid":"7b0c","slot":3,"golden":"8d199e37254f0dcc491fa9462ad4d6cc",
            "nonce":"0123456789abcdef0123456789abcdef","token":"secret","created":1700000000}"#;
        let text: String = text.split_whitespace().collect();
        assert_eq!(serde_json::to_string(&isolated).unwrap(), text);
        assert_eq!(serde_json::from_str::<MachineRecord>(&text).unwrap(), isolated);

        let device = Nic::bridge(&isolated.instance, &isolated.name, "br0");
        let connected = MachineRecord { nic: Some(device), ..isolated };
        let nic = r#","nic":{"tap":"avmbe7e-7143551","mac":"52:54:f9:c2:56:bf","wire":{"Bridge":{"bridge":"br0"}}}}"#;
        let text = text.replace('}', nic);
        assert_eq!(serde_json::to_string(&connected).unwrap(), text);
        assert_eq!(serde_json::from_str::<MachineRecord>(&text).unwrap(), connected);
    }
}
