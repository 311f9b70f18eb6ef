//! Precedence, mistakes and origins, tested over the pure merge.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use agentvm_hypervisor::libvirt::LibvirtFilter;
use proptest::prelude::*;

use super::resolve::{Given, resolve};
use super::*;

fn host() -> HostDefaults {
    HostDefaults {
        name: "Kvm-1".into(),
        memory_mib: 10_000,
        resolver: Some(Ipv4Addr::new(192, 0, 2, 53)),
    }
}

fn entries(text: &str, path: &str) -> Vec<file::Entry> {
    file::parse(text, Path::new(path)).unwrap()
}

fn with(
    files: &[(&str, &str)],
    environment: &[(&str, &str)],
    flags: &Flags,
) -> Result<Loaded, ConfigError> {
    let files = files.iter().flat_map(|(path, text)| entries(text, path)).collect();
    let environment: BTreeMap<_, _> =
        environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    resolve(&Given { files, environment, flags, host: host() })
}

fn flag(key: &'static str, flag: &'static str, text: &str) -> Flags {
    Flags { values: vec![FlagValue { key, flag, text: text.into() }], ..Flags::default() }
}

fn refused(text: &str) -> String {
    with(&[("f", text)], &[], &Flags::default()).unwrap_err().to_string()
}

fn origin_of<'a>(loaded: &'a Loaded, key: &str) -> &'a Origin {
    &loaded.origins.iter().find(|row| row.key == key).unwrap().origin
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let loaded = with(&[], &[], &Flags::default()).unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.libvirt.uri, "qemu:///system");
    assert_eq!(
        (settings.pool.min_size, settings.pool.max_size, settings.pool.ttl_seconds),
        (5, 20, 3600)
    );
    assert_eq!(settings.execution.workspace_path, PathBuf::from("/var/lib/agent-vm/workspace"));
    assert_eq!(settings.network.libvirt_filter, LibvirtFilter::Disabled);
    assert_eq!((settings.node.name.as_str(), settings.node.memory_mib), ("kvm-1", 8000));
    assert!(loaded.origins.iter().all(|row| row.origin == Origin::Default));
    let mut defaults = agentvm_core::defaults::Defaults::default();
    defaults.network.resolvers.extend(host().resolver);
    assert_eq!(settings.defaults(), defaults, "the defaults have one source");
}

#[test]
fn the_address_of_metrics_has_to_be_possible_only_where_somebody_asked_for_it() {
    let of = |flags: &Flags| with(&[], &[], flags).unwrap().settings.metrics;
    let default = of(&Flags::default());
    assert_eq!(
        (default.listen, default.explicit),
        (Some("127.0.0.1:9090".parse().unwrap()), false)
    );
    let asked = of(&flag("metrics.listen", "--metrics-listen", "0.0.0.0:9100"));
    assert_eq!((asked.listen, asked.explicit), (Some("0.0.0.0:9100".parse().unwrap()), true));
    assert_eq!(of(&flag("metrics.listen", "--metrics-listen", "off")).listen, None);
}

#[test]
fn a_limit_that_is_given_is_all_profiles_and_the_others_are_each_ones_own() {
    let said =
        "security: {resource_limits: {connections: 100, network_bytes_per_second: unlimited}}";
    let limits = with(&[("f", said)], &[], &Flags::default()).unwrap().settings.defaults().limits;
    let of = [limits.light, limits.standard, limits.intensive];
    assert!(
        of.iter()
            .all(|preset| (preset.connections, preset.network_bytes_per_second) == (100, None))
    );
    assert_eq!(of.map(|preset| preset.processes), [2048, 4096, 8192]);
    let back = with(
        &[("f", said), ("g", "security: {resource_limits: {connections: profile}}")],
        &[],
        &Flags::default(),
    );
    assert_eq!(back.unwrap().settings.defaults().limits.light.connections, 256);
}

#[test]
fn every_key_is_documented() {
    let manual = include_str!("../../../docs/troubleshooting.md");
    for row in with(&[], &[], &Flags::default()).unwrap().origins {
        assert!(
            manual.contains(&format!("| `{}` |", row.key)),
            "{} is missing in docs/troubleshooting.md",
            row.key
        );
    }
}

#[test]
fn an_unknown_key_has_a_suggestion_with_file_and_line() {
    let said = refused("pool:\n  min_sise: 3\n");
    assert_eq!(said, "f:2:13: pool.min_sise: there is no such key; did you mean pool.min_size?");
    assert!(
        refused("monitoring:\n  metrics_port: 1\n")
            .contains("monitoring.metrics_port: there is no such key")
    );
}

#[test]
fn sections_and_values_are_not_taken_for_each_other() {
    assert!(
        refused("pool: 5\n").contains("is a section, not a value; its keys: min_size, max_size")
    );
    assert!(refused("pool: {min_size: {a: 1}}\n").contains("pool.min_size takes a value"));
    assert!(refused("pool: {min_size: [1]}\n").contains("is a list"));
    assert!(refused("pool: {min_size: }\n").contains("has no value"));
    assert!(
        with(&[("f", "pool:\n")], &[], &Flags::default()).is_ok(),
        "a section with nothing in it is fine"
    );
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let said = refused("vm:\n  network_mode: nat\npool:\n  max_size: -1\n  ttl_seconds: soon\n");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].starts_with(
        "f:2:17: vm.network_mode: \"nat\" is not one of nat_filtered, isolated, bridge"
    ));
    assert!(lines[1].contains("\"-1\" is not a whole number from 1 to 1000"));
    assert!(lines[2].starts_with("f:5:16: pool.ttl_seconds"));
}

#[test]
fn a_mistake_is_told_even_where_a_flag_overrides_it() {
    let flags = flag("pool.min_size", "--pool-min-size", "2");
    let said = with(&[("f", "pool: {min_size: x}\n")], &[], &flags).unwrap_err().to_string();
    assert!(said.contains("pool.min_size: \"x\""), "{said}");
}

#[test]
fn a_minimum_above_the_maximum_names_both_origins() {
    let said =
        with(&[], &[("AGENT_VM_POOL_MIN_SIZE", "30")], &Flags::default()).unwrap_err().to_string();
    assert_eq!(
        said,
        "environment AGENT_VM_POOL_MIN_SIZE: pool.min_size: 30 (environment \
         AGENT_VM_POOL_MIN_SIZE) is greater than pool.max_size, which is 20 (default); lower the \
         first or raise the second"
    );
    assert!(
        refused("execution: {max_timeout: 10}\n")
            .contains("execution.max_timeout, which is 10 (f:1:26)")
    );
}

#[test]
fn an_empty_variable_is_unset_and_the_workspace_has_a_default_of_its_own() {
    let flags = Flags { default_workspace: Some("/data/workspace".into()), ..Flags::default() };
    let loaded = with(&[], &[("LIBVIRT_DEFAULT_URI", "")], &flags).unwrap();
    assert_eq!(*origin_of(&loaded, "libvirt.uri"), Origin::Default);
    assert_eq!(loaded.settings.execution.workspace_path, PathBuf::from("/data/workspace"));
}

proptest! {
    /// The strongest layer that names a key wins, for any subset of layers. It is also the reported
    /// origin.
    #[test]
    fn the_strongest_layer_wins(
        layers in proptest::array::uniform4(proptest::option::of(0_u32..=20)),
    ) {
        let yaml = |n: &u32| format!("pool:\n  min_size: {n}\n");
        let files: Vec<(&str, String)> = ["host", "user"]
            .into_iter()
            .zip(&layers)
            .filter_map(|(p, n)| Some((p, yaml(n.as_ref()?))))
            .collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(p, text)| (*p, text.as_str())).collect();
        let variable = layers[2].map(|n| n.to_string());
        let environment: Vec<(&str, &str)> =
            variable.iter().map(|n| ("AGENT_VM_POOL_MIN_SIZE", n.as_str())).collect();
        let flags = layers[3].map_or_else(Flags::default, |n| {
            flag("pool.min_size", "--pool-min-size", &n.to_string())
        });
        let loaded = with(&files, &environment, &flags).unwrap();

        let file = |path: &str| Origin::File { path: path.into(), line: 2, column: 13 };
        let origins = [
            file("host"),
            file("user"),
            Origin::Environment { variable: "AGENT_VM_POOL_MIN_SIZE".into() },
            Origin::Flag { flag: "--pool-min-size".into() },
        ];
        let strongest =
            layers.iter().zip(origins).rev().find_map(|(n, origin)| Some(((*n)?, origin)));
        let (value, origin) = strongest.unwrap_or((5, Origin::Default));
        prop_assert_eq!(loaded.settings.pool.min_size, value);
        prop_assert_eq!(origin_of(&loaded, "pool.min_size"), &origin);
    }

    /// No text of a file makes the loader panic. An accepted text gives a value for each key.
    #[test]
    fn any_text_is_accepted_or_refused(text in "(?s).{0,200}") {
        if let Ok(entries) = file::parse(&text, Path::new("f")) {
            let flags = Flags::default();
            let environment = BTreeMap::new();
            let given = Given { files: entries, environment, flags: &flags, host: host() };
            if let Ok(loaded) = resolve(&given) {
                prop_assert_eq!(loaded.origins.len(), 35);
            }
        }
    }
}
