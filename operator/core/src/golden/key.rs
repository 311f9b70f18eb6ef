//! The key of a golden: the name of its files on one host.

use super::{DeviceLayout, Recipe};
use crate::names::GoldenKey;

/// Facts that the files of a golden depend on, beside its recipe. Another value of any of them
/// makes another golden.
#[derive(Clone, Copy, Debug)]
pub struct KeyFacts<'a> {
    /// The digest of the default guest image.
    pub image_digest: &'a str,
    pub layout: DeviceLayout,
    pub qemu_version: &'a str,
    pub libvirt_version: &'a str,
    pub kernel_version: &'a str,
    /// `kvm` or `tcg`.
    pub accelerator: &'a str,
    pub cpu_model: &'a str,
}

/// The key of a recipe's golden.
pub fn key(recipe: &Recipe, facts: &KeyFacts<'_>) -> GoldenKey {
    GoldenKey::derive(&[
        "golden/5",
        &recipe.digest(),
        facts.image_digest,
        facts.layout.as_str(),
        facts.qemu_version,
        facts.libvirt_version,
        facts.kernel_version,
        facts.accelerator,
        facts.cpu_model,
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use agentvm_crds::{Builtin, GoldenSnapshotSpec, Source};

    use super::*;
    use crate::{defaults::Defaults, golden::recipe};

    const FACTS: KeyFacts<'static> = KeyFacts {
        image_digest: "sha256:1",
        layout: DeviceLayout::Nic,
        qemu_version: "10.0",
        libvirt_version: "11.0",
        kernel_version: "6.12",
        accelerator: "kvm",
        cpu_model: "host",
    };

    fn debian(defaults: &Defaults) -> Recipe {
        let spec = GoldenSnapshotSpec {
            source: Source { builtin: Some(Builtin::Debian), rootfs: None },
            description: None,
            resources: None,
            setup: None,
        };
        recipe(&spec, defaults).unwrap()
    }

    #[test]
    fn a_golden_has_the_same_key_after_every_restart() {
        let key = key(&debian(&Defaults::default()), &FACTS);
        assert_eq!(key.as_str(), "e361a0fd7102b038cae1df7638e64877");
    }

    #[test]
    fn another_value_of_any_fact_makes_another_golden() {
        let recipe = debian(&Defaults::default());
        let larger = debian(&Defaults { cpu_shares: 2048, ..Defaults::default() });
        let others = [
            FACTS,
            KeyFacts { image_digest: "x", ..FACTS },
            KeyFacts { layout: DeviceLayout::Isolated, ..FACTS },
            KeyFacts { qemu_version: "x", ..FACTS },
            KeyFacts { libvirt_version: "x", ..FACTS },
            KeyFacts { kernel_version: "x", ..FACTS },
            KeyFacts { accelerator: "tcg", ..FACTS },
            KeyFacts { cpu_model: "x", ..FACTS },
        ];
        let mut keys: HashSet<GoldenKey> = others.iter().map(|facts| key(&recipe, facts)).collect();
        keys.insert(key(&larger, &FACTS));
        assert_eq!(keys.len(), others.len() + 1);
    }
}
