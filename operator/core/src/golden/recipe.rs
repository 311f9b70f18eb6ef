//! From a spec to a recipe that can be carried out: sizes resolved, steps bounded, a digest over
//! all of it.

use agentvm_crds::{Builtin, CustomResources, GoldenSnapshotSpec, Profile, SetupNetworkMode};
use agentvm_types::Resources;

use crate::{defaults::Defaults, invalid_spec::InvalidSpec, names::short_hash};

/// The thing that the machine boots from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    Debian,
    Rootfs { path: String, sha256: String },
}

/// One command of the setup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub command: Vec<String>,
    pub timeout_seconds: u32,
}

/// Everything that determines a golden, on any host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    pub source: SourceKind,
    pub size: Resources,
    pub steps: Vec<Step>,
    /// The network of the steps.
    pub setup_network: SetupNetworkMode,
}

/// Resolves a spec with the operator's defaults.
pub fn recipe(spec: &GoldenSnapshotSpec, defaults: &Defaults) -> Result<Recipe, InvalidSpec> {
    let source = match (&spec.source.builtin, &spec.source.rootfs) {
        (Some(Builtin::Debian), None) => SourceKind::Debian,
        (None, Some(rootfs)) => {
            check_rootfs_path(&rootfs.path)?;
            if rootfs.sha256.len() != 64 || !rootfs.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(InvalidSpec::new(
                    "spec.source.rootfs.sha256",
                    "must be 64 hexadecimal characters",
                ));
            }
            SourceKind::Rootfs {
                path: rootfs.path.clone(),
                sha256: rootfs.sha256.to_ascii_lowercase(),
            }
        }
        _ => {
            return Err(InvalidSpec::new(
                "spec.source",
                "exactly one of builtin and rootfs must be set",
            ));
        }
    };
    let size = size(spec, defaults)?;
    let steps = spec
        .setup
        .iter()
        .flat_map(|setup| setup.steps.iter().enumerate())
        .map(|(index, step)| check_step(index, &step.command, step.timeout_seconds, defaults))
        .collect::<Result<_, _>>()?;
    let network = spec.setup.as_ref().and_then(|setup| setup.network.as_ref());
    Ok(Recipe {
        source,
        size,
        steps,
        setup_network: network.and_then(|network| network.mode).unwrap_or_default(),
    })
}

/// The profile whose limits apply to machines of this snapshot. A custom size has the profile with
/// as many processors, or the next smaller one, because processors make the load.
pub fn profile(spec: &GoldenSnapshotSpec, defaults: &Defaults) -> Profile {
    match size(spec, defaults).map(|size| size.vcpus) {
        Ok(0..=1) => Profile::Light,
        Ok(2..=3) | Err(_) => Profile::Standard,
        Ok(4..) => Profile::Intensive,
    }
}

impl Recipe {
    /// `sha256:…` over source, resources and setup.
    pub fn digest(&self) -> String {
        let Resources { vcpus, memory_mib, disk_gib, cpu_shares } = self.size;
        let mut parts = vec!["recipe/1".to_owned()];
        match &self.source {
            SourceKind::Debian => parts.push("builtin/debian".to_owned()),
            SourceKind::Rootfs { sha256, .. } => parts.push(format!("rootfs/{sha256}")),
        }
        parts.push(format!("{vcpus}/{memory_mib}/{disk_gib}/{cpu_shares}"));
        for step in &self.steps {
            parts.push(format!("step/{}/{}", step.timeout_seconds, step.command.len()));
            parts.extend(step.command.iter().cloned());
        }
        // Parts that have no effect make no difference.
        if !self.steps.is_empty() && self.setup_network == SetupNetworkMode::Isolated {
            parts.push("setup/isolated".to_owned());
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        format!("sha256:{}", short_hash(&parts, 64))
    }
}

fn size(spec: &GoldenSnapshotSpec, defaults: &Defaults) -> Result<Resources, InvalidSpec> {
    let resources = spec.resources.as_ref();
    let profile = resources.and_then(|r| r.profile).unwrap_or(defaults.profile);
    let custom = resources.and_then(|r| r.custom.as_ref());
    let shares = defaults.cpu_shares;
    let fixed =
        |vcpus, memory_mib, disk_gib| Resources { vcpus, memory_mib, disk_gib, cpu_shares: shares };
    let size = match (profile, custom) {
        (Profile::Light, None) => fixed(1, 1024, 10),
        (Profile::Standard, None) => fixed(2, 2048, 20),
        (Profile::Intensive, None) => fixed(4, 4096, 40),
        (Profile::Custom, Some(custom)) => custom_size(custom, shares)?,
        (Profile::Custom, None) => {
            return Err(InvalidSpec::new(
                "spec.resources.custom",
                "is required with profile Custom",
            ));
        }
        (_, Some(_)) => {
            return Err(InvalidSpec::new(
                "spec.resources.custom",
                "is only allowed with profile Custom",
            ));
        }
    };
    match defaults.memory_hard_limit_mib {
        Some(limit) if size.memory_mib > limit => Err(InvalidSpec::new(
            "spec.resources",
            format!(
                "asks for {} MiB; this operator allows {limit} MiB (security.resource_limits)",
                size.memory_mib
            ),
        )),
        _ => Ok(size),
    }
}

fn custom_size(custom: &CustomResources, shares: u32) -> Result<Resources, InvalidSpec> {
    let within = |field: &str, value: i32, low: i32, high: i32| {
        u32::try_from(value).ok().filter(|_| (low..=high).contains(&value)).ok_or_else(|| {
            InvalidSpec::new(
                format!("spec.resources.custom.{field}"),
                format!("must be {low} to {high}, is {value}"),
            )
        })
    };
    Ok(Resources {
        vcpus: within("vcpus", custom.vcpus, 1, 64)?,
        memory_mib: within("memoryMiB", custom.memory_mib, 256, 1_048_576)?,
        disk_gib: within("diskGiB", custom.disk_gib, 2, 4096)?,
        cpu_shares: custom
            .cpu_shares
            .map_or(Ok(shares), |value| within("cpuShares", value, 2, 262_144))?,
    })
}

fn check_step(
    index: usize,
    command: &[String],
    timeout: Option<i32>,
    defaults: &Defaults,
) -> Result<Step, InvalidSpec> {
    let path = format!("spec.setup.steps[{index}]");
    if command.first().is_none_or(String::is_empty) {
        return Err(InvalidSpec::new(format!("{path}.command"), "must name a program"));
    }
    if command.iter().any(|arg| arg.contains('\0')) {
        return Err(InvalidSpec::new(format!("{path}.command"), "must not contain NUL"));
    }
    let most = defaults.setup_seconds;
    if let Some(asked) = timeout.and_then(|seconds| u32::try_from(seconds).ok())
        && asked > most
    {
        return Err(InvalidSpec::new(
            format!("{path}.timeoutSeconds"),
            format!(
                "must not be above {most}, is {asked}: all steps together have {most} seconds on \
                    these hosts (golden.setup_timeout of the operator's configuration)"
            ),
        ));
    }
    let timeout = timeout.unwrap_or(600);
    let timeout_seconds =
        u32::try_from(timeout).ok().filter(|seconds| *seconds > 0).ok_or_else(|| {
            InvalidSpec::new(
                format!("{path}.timeoutSeconds"),
                format!("must be at least 1, is {timeout}"),
            )
        })?;
    Ok(Step { command: command.to_vec(), timeout_seconds })
}

fn check_rootfs_path(path: &str) -> Result<(), InvalidSpec> {
    crate::run::check_relative_path(path)
        .map_err(|problem| InvalidSpec::new("spec.source.rootfs.path", problem))
}

#[cfg(test)]
mod tests {
    use agentvm_crds::{ResourcesSpec, Rootfs, Setup, SetupNetwork, SetupStep, Source};

    use super::*;

    fn debian() -> GoldenSnapshotSpec {
        GoldenSnapshotSpec {
            source: Source { builtin: Some(Builtin::Debian), rootfs: None },
            description: None,
            resources: None,
            setup: None,
        }
    }

    fn step(command: &[&str], timeout_seconds: Option<i32>) -> Setup {
        let command = command.iter().map(ToString::to_string).collect();
        Setup { steps: vec![SetupStep { command, timeout_seconds }], network: None }
    }

    fn path_of(spec: &GoldenSnapshotSpec) -> String {
        recipe(spec, &Defaults::default()).unwrap_err().path
    }

    #[test]
    fn defaults_fill_what_is_left_out() {
        let recipe = recipe(&debian(), &Defaults::default()).unwrap();
        assert_eq!(
            recipe.size,
            Resources { vcpus: 2, memory_mib: 2048, disk_gib: 20, cpu_shares: 1024 }
        );
    }

    #[test]
    fn the_digest_changes_with_every_part_of_the_recipe_and_with_nothing_else() {
        let defaults = Defaults::default();
        let digest = |spec: &GoldenSnapshotSpec| recipe(spec, &defaults).unwrap().digest();
        let base = debian();
        let described = GoldenSnapshotSpec { description: Some("x".into()), ..debian() };
        let light = ResourcesSpec { profile: Some(Profile::Light), custom: None };
        let small = GoldenSnapshotSpec { resources: Some(light), ..debian() };
        let one = GoldenSnapshotSpec { setup: Some(step(&["a b"], None)), ..debian() };
        let two = GoldenSnapshotSpec { setup: Some(step(&["a", "b"], None)), ..debian() };
        let alone = SetupNetwork { mode: Some(SetupNetworkMode::Isolated) };
        let alone = Setup { network: Some(alone), ..step(&["a b"], None) };
        let alone = GoldenSnapshotSpec { setup: Some(alone), ..debian() };
        assert_eq!(digest(&base), digest(&described));
        let mut all =
            vec![digest(&base), digest(&small), digest(&one), digest(&two), digest(&alone)];
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn mistakes_are_named_by_their_path() {
        let rootfs = |path: &str, sha256: &str| GoldenSnapshotSpec {
            source: Source {
                builtin: None,
                rootfs: Some(Rootfs { path: path.into(), sha256: sha256.into() }),
            },
            ..debian()
        };
        let custom = |vcpus| GoldenSnapshotSpec {
            resources: Some(ResourcesSpec {
                profile: Some(Profile::Custom),
                custom: Some(CustomResources {
                    vcpus,
                    memory_mib: 512,
                    disk_gib: 4,
                    cpu_shares: None,
                }),
            }),
            ..debian()
        };
        let no_source =
            GoldenSnapshotSpec { source: Source { builtin: None, rootfs: None }, ..debian() };
        let digest = "0".repeat(64);
        assert_eq!(path_of(&no_source), "spec.source");
        assert_eq!(path_of(&rootfs("../secret", &digest)), "spec.source.rootfs.path");
        assert_eq!(path_of(&rootfs("/etc/shadow", &digest)), "spec.source.rootfs.path");
        assert_eq!(path_of(&rootfs("a.img", "abc")), "spec.source.rootfs.sha256");
        assert_eq!(path_of(&custom(0)), "spec.resources.custom.vcpus");
        assert_eq!(
            path_of(&GoldenSnapshotSpec { setup: Some(step(&[], None)), ..debian() }),
            "spec.setup.steps[0].command"
        );
        let zero = GoldenSnapshotSpec { setup: Some(step(&["a"], Some(0))), ..debian() };
        assert_eq!(path_of(&zero), "spec.setup.steps[0].timeoutSeconds");
        let long = GoldenSnapshotSpec { setup: Some(step(&["true"], Some(3601))), ..zero };
        assert_eq!(path_of(&long), "spec.setup.steps[0].timeoutSeconds");
        let tight = Defaults { memory_hard_limit_mib: Some(1024), ..Defaults::default() };
        assert_eq!(recipe(&debian(), &tight).unwrap_err().path, "spec.resources");
        assert!(recipe(&rootfs("images/a.img", &digest), &Defaults::default()).is_ok());
    }
}
