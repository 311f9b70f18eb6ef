//! Reads libvirt's settings for the confinement of QEMU, and the confinement of the QEMUs that run
//! now.

use std::fs;
use std::path::Path;

use agentvm_hypervisor::libvirt::LibvirtConfig;

use super::command;
use crate::doctor::observed::{Confined, Confinement, QemuConf};

const CONF: &str = "/etc/libvirt/qemu.conf";
/// libvirt's pid files of running machines. Ours begin with `avm-`.
const PIDS: &str = "/run/libvirt/qemu";

pub(super) fn confinement(first_uid: Option<u32>) -> Confinement {
    Confinement {
        // Without the file libvirt uses its defaults. A file that can't be read leaves the settings
        // unknown.
        conf: match fs::read_to_string(CONF) {
            Ok(text) => Some(conf(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(QemuConf::default()),
            Err(_) => None,
        },
        first_uid,
        uids_taken_by: first_uid.and_then(taken),
        cut_off: command::output("nft", &["list", "chains"]).ok().map(|chains| cuts_off(&chains)),
        controllers: controllers(
            &read("/proc/cgroups"),
            &read("/sys/fs/cgroup/cgroup.controllers"),
        ),
        machines: machines(),
    }
}

fn taken(first: u32) -> Option<String> {
    LibvirtConfig::uids_taken_by(
        first,
        &read("/etc/passwd"),
        &[&read("/etc/subuid"), &read("/etc/subgid")],
    )
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The settings for confinement and for log files. A setting that the file does not have is `None`.
fn conf(text: &str) -> QemuConf {
    let value = |name: &str| value(text, name);
    QemuConf {
        user: value("user"),
        seccomp_sandbox: value("seccomp_sandbox"),
        namespaces: value("namespaces"),
        security_driver: value("security_driver"),
        clear_capabilities: value("clear_emulator_capabilities"),
        cgroup_controllers: value("cgroup_controllers"),
        stdio_handler: value("stdio_handler"),
    }
}

/// The value of a setting without its quotes. A list may have many lines; its items come back
/// separated by single spaces.
fn value(text: &str, name: &str) -> Option<String> {
    let code: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
    let at = code.iter().position(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('='))
    })?;
    let first = code[at].split_once('=')?.1.trim();
    if !first.starts_with('[') {
        return Some(first.trim_matches('"').to_owned());
    }
    let rest = code[at + 1..].iter().take_while(|_| !first.contains(']'));
    let whole = std::iter::once(first).chain(rest.copied()).collect::<Vec<_>>().join(" ");
    let inner = whole.trim_start_matches('[').split(']').next()?;
    let items: Vec<&str> = inner
        .split(',')
        .map(|item| item.trim().trim_matches('"'))
        .filter(|i| !i.is_empty())
        .collect();
    Some(items.join(" "))
}

/// The operator creates this chain together with its rule, so the chain proves the rule.
fn cuts_off(chains: &str) -> bool {
    let mut ours = false;
    chains.lines().map(str::trim).any(|line| {
        if let Some(table) = line.strip_prefix("table ") {
            ours = table.starts_with("inet agentvm_");
        }
        ours && line == "chain from_qemu {"
    })
}

/// The enabled controllers of both versions of cgroups, because limits work with either.
fn controllers(first_version: &str, second_version: &str) -> Vec<String> {
    let enabled = first_version.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(3) == Some(&"1") && fields.get(1) != Some(&"0")).then(|| fields[0].to_owned())
    });
    let mut all: Vec<String> =
        enabled.chain(second_version.split_whitespace().map(str::to_owned)).collect();
    all.sort();
    all.dedup();
    all
}

fn machines() -> Vec<Confined> {
    let entries = fs::read_dir(PIDS).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let name = name.strip_suffix(".pid").filter(|name| name.starts_with("avm-"))?;
            machine(name, fs::read_to_string(entry.path()).ok()?.trim())
        })
        .collect()
}

/// `None` for a process that has ended, or that this user may not inspect.
fn machine(name: &str, pid: &str) -> Option<Confined> {
    let proc = Path::new("/proc").join(pid);
    let status = fs::read_to_string(proc.join("status")).ok()?;
    let field = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        line.split_whitespace().next().map(str::to_owned)
    };
    let mounts = |of: &Path| fs::read_link(of.join("ns/mnt")).ok();
    Some(Confined {
        name: name.to_owned(),
        uid: field("Uid")?.parse().ok()?,
        seccomp: field("Seccomp")? == "2",
        no_new_privileges: field("NoNewPrivs")? == "1",
        no_capabilities: u64::from_str_radix(&field("CapEff")?, 16).ok()? == 0,
        own_mounts: mounts(&proc)? != mounts(Path::new("/proc/self"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_conf_is_read_as_libvirt_does() {
        let text = "# user = \"root\"\nuser = \"qemu\"\n  seccomp_sandbox = 0\nnamespaces = [ ]\n\
                    cgroup_controllers = [ \"cpu\",\n # no\n \"memory\" ]\nstdio_handler = \
                    \"file\"\nusername = \"x\"\n";
        let conf = conf(text);
        assert_eq!(
            (conf.user.as_deref(), conf.seccomp_sandbox.as_deref()),
            (Some("qemu"), Some("0"))
        );
        assert_eq!((conf.namespaces.as_deref(), conf.security_driver), (Some(""), None));
        assert_eq!(conf.cgroup_controllers.as_deref(), Some("cpu memory"));
        assert_eq!(conf.stdio_handler.as_deref(), Some("file"));
        assert_eq!(value("namespaces = [", "namespaces").as_deref(), Some(""));
    }

    #[test]
    fn the_chain_is_ours() {
        let chains = |table: &str| {
            format!(
                "table inet other {{\n}}\ntable {table} {{\n\tchain x {{\n\t}}\n\tchain from_qemu \
                 {{\n\t}}\n}}\n"
            )
        };
        assert!(cuts_off(&chains("inet agentvm_0a1b2c3d")));
        assert!(!cuts_off(&chains("inet mine")) && !cuts_off(""));
    }

    #[test]
    fn controllers_of_both_versions_count() {
        let first = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t5\t1\nmemory\t0\t5\t1\n\
                     blkio\t7\t1\t0\n";
        assert_eq!(controllers(first, ""), ["cpu"]);
        assert_eq!(controllers(first, "cpu memory pids\n"), ["cpu", "memory", "pids"]);
    }
}
