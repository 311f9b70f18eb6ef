//! Names that are derived, never drawn: a retry after a crash finds its own work.
//!
//! This file does not know the users of the names. All names fit into a libvirt domain name, a file
//! name and a label value.

use agentvm_types::{PoolUid, hex, text_type};
use sha2::{Digest, Sha256};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        text_type!($(#[$doc])* $name);

        impl $name {
            /// Takes a text that this program wrote itself (metadata, a status); nothing is derived
            /// from it.
            pub fn from_recorded(text: impl Into<String>) -> Self {
                Self(text.into())
            }
        }
    };
}

name!(
    /// The libvirt domain of one slot of one pool, or of a golden's template.
    DomainName
);
name!(
    /// One installation of the operator on one host. It tells the domains of one installation from
    /// those of another on one libvirt.
    InstanceId
);
name!(
    /// One golden on one host: recipe, layout, QEMU, libvirt, kernel, accelerator and CPU model.
    GoldenKey
);

impl InstanceId {
    /// From the state directory: the same directory is the same installation, also after a restart.
    pub fn for_state_dir(canonical_path: &str) -> Self {
        Self(short_hash(&["instance", canonical_path], 8))
    }
}

impl DomainName {
    /// The beginning of the names of all domains of this installation.
    pub fn prefix(instance: &InstanceId) -> String {
        format!("avm-{instance}-")
    }

    /// The machine in `slot` of a pool. A slot always has this name, so that a second creation is
    /// noticed.
    pub fn for_slot(instance: &InstanceId, pool: &PoolUid, slot: u32) -> Self {
        Self(format!(
            "{}{}-{slot}",
            Self::prefix(instance),
            short_hash(&["pool", pool.as_str()], 8)
        ))
    }

    /// The template that a golden is captured from.
    pub fn for_template(instance: &InstanceId, key: &GoldenKey) -> Self {
        Self(format!("{}golden-{}", Self::prefix(instance), &key.0[..key.0.len().min(12)]))
    }
}

impl GoldenKey {
    /// The key of a golden. `parts` are all things that its files depend on, in a fixed order, each
    /// with its meaning as a prefix.
    pub fn derive(parts: &[&str]) -> Self {
        Self(short_hash(parts, 32))
    }
}

/// The first `len` hex characters of the SHA-256 of the parts, each preceded by its length (so that
/// `ab|c` isn't `a|bc`).
pub fn short_hash(parts: &[&str], len: usize) -> String {
    let mut text = hex(&digest_parts(parts));
    text.truncate(len);
    text
}

fn digest_parts(parts: &[&str]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_the_same_name_every_time_and_another_slot_has_another() {
        let instance = InstanceId::for_state_dir("/var/lib/agentvm");
        let uid = PoolUid::new("uid");
        let a = DomainName::for_slot(&instance, &uid, 0);
        assert_eq!(a, DomainName::for_slot(&instance, &uid, 0));
        assert_ne!(a, DomainName::for_slot(&instance, &uid, 1));
        assert_ne!(a, DomainName::for_slot(&instance, &PoolUid::new("other"), 0));
        assert_ne!(a, DomainName::for_slot(&InstanceId::for_state_dir("/elsewhere"), &uid, 0));
        let template = DomainName::for_template(&instance, &GoldenKey::derive(&["g"]));
        assert!(
            [a, template]
                .iter()
                .all(|name| name.as_str().starts_with(&DomainName::prefix(&instance)))
        );
    }

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(short_hash(&["ab", "c"], 64), short_hash(&["a", "bc"], 64));
        assert_eq!(hex(&[0x0f, 0xa0]), "0fa0");
    }
}
