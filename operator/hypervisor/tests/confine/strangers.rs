//! An attacker who takes over the QEMU of one machine is one user of the host. The test becomes
//! that user, and tries things of others.

use std::io::Write as _;
use std::process::Command;

use agentvm_core::names::GoldenKey;
use agentvm_hypervisor::MachineSpec;

use crate::libvirt_host::TestHost;
use crate::{pid, status, stranger};

/// An attempt of a process, and its outcome.
pub type Tried = (String, Result<(), String>);

/// Tries as the user of a process, with its groups only.
pub fn try_as(process: u32, attempts: &[String]) -> Vec<Tried> {
    let id = |field| status(process, field)[1].parse::<u32>().unwrap();
    let mut stranger = stranger::spawn(id("Uid"), id("Gid"));
    stranger.stdin.take().unwrap().write_all(attempts.join("\n").as_bytes()).unwrap();
    let output = stranger.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let tried = said.lines().filter_map(|line| {
        let (what, came) = line.split_once("tried ")?.1.rsplit_once(": ")?;
        Some((what.to_owned(), if came == "done" { Ok(()) } else { Err(came.to_owned()) }))
    });
    let tried: Vec<_> = tried.collect();
    assert_eq!(tried.len(), attempts.len(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    tried
}

/// The belongings of a machine on the host, as attempts.
fn belongings(host: &TestHost, spec: &MachineSpec) -> Vec<String> {
    let name = &spec.record.name;
    let at = |file: &str| {
        host.dir.path().join("machines").join(name.as_str()).join(file).display().to_string()
    };
    let pid = pid(name);
    let mut all = Vec::new();
    for (verbs, file) in [
        (&["read", "write"][..], "overlay.qcow2"),
        (&["list"], "share"),
        (&["list"], "share/input"),
        (&["read"], "share/input/mine"),
        (&["list"], "share/output"),
        (&["make"], "share/output/theirs"),
        (&["list"], "reset"),
        (&["connect"], "reset/sock"),
    ] {
        all.extend(verbs.iter().map(|verb| format!("{verb} {}", at(file))));
    }
    all.push(format!("read /proc/{pid}/maps"));
    all.push(format!("list /proc/{pid}/fd"));
    all.push(format!("signal {pid}"));
    all
}

/// Things that belong to root only, even those of the machine itself.
fn roots(host: &TestHost, spec: &MachineSpec) -> Vec<String> {
    let dir = host.dir.path().join("machines").join(spec.record.name.as_str());
    let at = |verb: &str, file: &str| format!("{verb} {}", dir.join(file).display());
    let mut all = vec![format!("list {}", dir.display()), at("make", "new")];
    for file in
        ["token", "share.img", "console.log", "record.json", "process.json", "ready", "user"]
    {
        all.extend([at("write", file), at("remove", file)]);
    }
    all.extend(["token", "share.img", "console.log"].map(|file| at("read", file)));
    all.push(at("connect", "agent.sock"));
    all
}

fn goldens(host: &TestHost, key: &GoldenKey) -> (Vec<String>, Vec<String>) {
    let dir = host.dir.path().join("golden").join(key.as_str());
    let files =
        ["memory", "state", "snapshot.qcow2", "disk.qcow2", "rootfs.raw", "vmlinuz", "initrd.img"];
    let with = |verb: &str| files.map(|file| format!("{verb} {}", dir.join(file).display()));
    let mut closed: Vec<String> = with("write").into_iter().chain(with("remove")).collect();
    closed.extend(
        ["golden.json", "recipe.json"].map(|file| format!("write {}", dir.join(file).display())),
    );
    closed.push(format!("make {}", dir.join("new").display()));
    closed.push(format!("make {}", host.dir.path().join("golden/new").display()));
    closed.push(format!("make {}", host.dir.path().join("machines/new").display()));
    (with("read").to_vec(), closed)
}

/// Sockets and secrets that libvirt keeps for a machine.
fn libvirts(name: &str) -> Vec<String> {
    let id =
        Command::new("virsh").args(["-q", "-c", "qemu:///system", "domid", name]).output().unwrap();
    // The rest of the folder's name is the machine's, cut.
    let start = format!("domain-{}-", String::from_utf8(id.stdout).unwrap().trim());
    let mut folders = std::fs::read_dir("/var/lib/libvirt/qemu").unwrap().flatten();
    let folder = folders.find(|entry| entry.file_name().to_string_lossy().starts_with(&start));
    let folder = folder.expect("libvirt keeps a folder for each domain").path();
    let at = |verb: &str, file: &str| format!("{verb} {}", folder.join(file).display());
    vec![at("connect", "monitor.sock"), at("read", "master-key.aes"), at("make", "new")]
}

pub fn outcome(tried: &[Tried], wanted: bool) -> Vec<&Tried> {
    tried.iter().filter(|(_, came)| came.is_ok() != wanted).collect()
}

/// `specs` are two machines that run.
pub fn find_nothing_open(host: &TestHost, key: &GoldenKey, specs: &[MachineSpec; 2]) {
    let [one, other] = specs.each_ref().map(|spec| pid(&spec.record.name));
    assert_ne!(status(one, "Uid"), status(other, "Uid"));
    let own = try_as(one, &belongings(host, &specs[0]));
    assert_eq!(
        outcome(&own, true),
        Vec::<&Tried>::new(),
        "the control: what is its own is open to it"
    );
    let theirs = try_as(other, &belongings(host, &specs[0]));
    assert_eq!(outcome(&theirs, false), Vec::<&Tried>::new(), "of the other machine");
    for user in [one, other] {
        let closed = try_as(user, &roots(host, &specs[0]));
        assert_eq!(outcome(&closed, false), Vec::<&Tried>::new(), "of root");
        let (open, closed) = goldens(host, key);
        assert_eq!(
            outcome(&try_as(user, &open), true),
            Vec::<&Tried>::new(),
            "goldens are read by all"
        );
        assert_eq!(
            outcome(&try_as(user, &closed), false),
            Vec::<&Tried>::new(),
            "goldens are written by nobody"
        );
    }
    let theirs = try_as(other, &libvirts(specs[0].record.name.as_str()));
    assert_eq!(
        outcome(&theirs, false),
        Vec::<&Tried>::new(),
        "what libvirt keeps of the other machine"
    );
}
