//! Tests the reaper as a process of its own: first with shell scripts as daemons, then with the
//! real libvirtd in namespaces without another one.

// Clippy treats only functions with #[test] as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use agentvm_operator::standalone::libvirtd::{Libvirtd, Released};
use agentvm_operator::standalone::process::ProcessId;
use agentvm_operator::standalone::reaper::{DaemonSpec, ReaperFiles, ReaperState};
use agentvm_operator::standalone::run_folder;
use agentvm_testing::{wait_for, wait_until};
use rustix::process::Signal;

const AGENTVM: &str = env!("CARGO_BIN_EXE_agentvm");
const DEADLINE: Duration = Duration::from_secs(30);

/// A reaper. At every end of the test it is ended together with its daemons.
struct Reaper {
    files: ReaperFiles,
}

impl Reaper {
    fn start(folder: &Path, daemons: &[DaemonSpec]) -> Self {
        let reaper = Self { files: ReaperFiles::new(folder) };
        reaper.files.write_daemons(daemons).unwrap();
        reaper.launch();
        let all = |state: &ReaperState| state.daemons.len() == daemons.len();
        wait_for("all daemons run", || reaper.files.living().filter(all));
        reaper
    }

    fn launch(&self) {
        let status = Command::new(AGENTVM)
            .args(["__reaper", "--state-dir"])
            .arg(self.files.folder())
            .status()
            .unwrap();
        assert!(status.success());
    }

    fn state(&self) -> ReaperState {
        self.files.living().expect("the reaper lives")
    }

    fn daemon(&self, name: &str) -> Option<ProcessId> {
        self.files.living()?.daemons.iter().find(|(each, _)| each == name).map(|(_, id)| *id)
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if let Some(state) = self.files.living() {
            state.reaper.signal(Signal::TERM);
            wait_until("the reaper ends", || !state.reaper.is_alive());
        }
    }
}

fn script(name: &str, script: &str) -> DaemonSpec {
    DaemonSpec {
        name: name.into(),
        program: "sh".into(),
        args: vec!["-c".into(), script.into()],
        socket: None,
    }
}

/// A field of /proc/PID/stat, counted after the name: 1 is the parent, 3 the session.
fn stat(pid: i32, field: usize) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(field).unwrap().parse().unwrap()
}

fn number_in(path: &Path) -> i32 {
    wait_for("a number is written", || fs::read_to_string(path).ok()?.trim().parse().ok())
}

#[test]
fn a_reaper_is_nobodys_child_and_restarts_what_dies() {
    let dir = tempfile::tempdir().unwrap();
    let reaper = Reaper::start(dir.path(), &[script("sleeper", "exec sleep 600")]);
    let ReaperState { reaper: id, .. } = reaper.state();
    assert_ne!(
        stat(id.pid, 1),
        i32::try_from(std::process::id()).unwrap(),
        "it must outlive its starter"
    );
    assert_eq!(stat(id.pid, 3), id.pid, "a session of its own: no terminal's Ctrl-C reaches it");

    let first = reaper.daemon("sleeper").unwrap();
    first.signal(Signal::KILL);
    let second = wait_for("it is restarted", || reaper.daemon("sleeper").filter(|id| *id != first));
    assert!(second.is_alive());
    assert_eq!(reaper.state().reaper, id);
}

#[test]
fn what_loses_its_parent_is_adopted_reaped_and_spared() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
    // libvirtd starts a QEMU like this: in the background of a process that ends.
    let orphans = format!(
        "for f in {} {}; do (setsid sleep 600 & echo $! >$f); done; exec sleep 600",
        one.display(),
        two.display()
    );
    let reaper = Reaper::start(dir.path(), &[script("parent", &orphans)]);
    let [one, two] = [one, two].map(|path| number_in(&path));
    let id = reaper.state().reaper;
    wait_until("they are adopted", || stat(one, 1) == id.pid && stat(two, 1) == id.pid);

    ProcessId::of(one).unwrap().signal(Signal::KILL);
    let began = Instant::now();
    wait_until("it is waited for", || !Path::new(&format!("/proc/{one}")).exists());
    println!("an adopted process was gone {:?} after its end", began.elapsed());

    let two = ProcessId::of(two).unwrap();
    let daemon = reaper.daemon("parent").unwrap();
    drop(reaper);
    assert!(!daemon.is_alive());
    assert!(two.is_alive(), "the reaper must not end processes that a daemon started");
    two.signal(Signal::KILL);
}

#[test]
fn daemons_end_in_the_reverse_of_their_order_and_the_stubborn_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let order = dir.path().join("order");
    let polite = |name: &str| {
        let line = format!(
            "trap 'echo {name} >>{}; exit' TERM; echo; while :; do sleep 0.01; done",
            order.display()
        );
        script(name, &line)
    };
    let stubborn = script("stubborn", "trap '' TERM; while :; do sleep 0.1; done");
    let reaper = Reaper::start(dir.path(), &[polite("first"), stubborn, polite("second")]);
    for name in ["first", "second"] {
        wait_for("its trap is set", || {
            fs::read(reaper.files.daemon_log(name)).ok().filter(|log| !log.is_empty())
        });
    }
    let ids = reaper.state().daemons;
    drop(reaper);
    assert_eq!(fs::read_to_string(order).unwrap(), "second\nfirst\n");
    assert!(ids.iter().all(|(_, id)| !id.is_alive()), "{ids:?}");
    assert!(!dir.path().join("reaper.json").exists());
}

#[test]
fn a_folder_has_one_reaper() {
    let dir = tempfile::tempdir().unwrap();
    let reaper = Reaper::start(dir.path(), &[script("sleeper", "exec sleep 600")]);
    let state = reaper.state();
    reaper.launch();
    wait_for("the second says so", || {
        fs::read_to_string(reaper.files.log())
            .ok()
            .filter(|log| log.contains("another reaper serves this folder"))
    });
    assert_eq!(reaper.state(), state);
}

/// Set for the half of the test that runs in the namespaces without a libvirtd.
const INSIDE: &str = "AGENTVM_TEST_IN_NAMESPACE";

/// Folders of a libvirtd. Each is an empty mount in the namespace.
const FOLDERS: &str = "/run /var/lib/libvirt /var/log/libvirt /var/cache/libvirt /etc/libvirt";

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn a_real_libvirtd_is_started_kept_found_again_and_ended() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(the_life_of_a_libvirtd());
    }
    assert!(
        rustix::process::geteuid().is_root(),
        "a libvirtd of our own takes root, as in production"
    );
    // libvirt's run folder is on a disk there, like on hosts without an init.
    let disk = tempfile::tempdir_in("/var/tmp").unwrap();
    let mount = format!(
        "for d in {FOLDERS}; do mount -t tmpfs tmpfs $d || exit 1; done
         mkdir /run/libvirt && mount --bind {} /run/libvirt && exec \"$@\"",
        disk.path().display()
    );
    let status = Command::new("unshare")
        .args(["--mount", "--net", "--propagation", "private", "sh", "-c", &mount, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_real_libvirtd_is_started_kept_found_again_and_ended", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

async fn ensure(state_dir: &Path) -> Libvirtd {
    Libvirtd::ensure_with("qemu:///system", state_dir, Path::new(AGENTVM)).await.unwrap()
}

fn serves() -> bool {
    Command::new("virsh").args(["-c", "qemu:///system", "list"]).output().unwrap().status.success()
}

async fn the_life_of_a_libvirtd() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("libvirt");
    let began = Instant::now();
    let libvirtd = ensure(&state_dir).await;
    println!("libvirtd answers {:?} after its start", began.elapsed());
    let Libvirtd::Ours { reaper, resumed: false } = libvirtd else { panic!("{libvirtd:?}") };
    let cleanup = Reaper { files: ReaperFiles::new(&state_dir) };
    assert!(serves());
    let run = Path::new("/run/libvirt");
    assert!(!run_folder::is_on_disk(run), "each pause and resume would wait for the disk");

    // A killed daemon is restarted. The sockets that it leaves do no harm.
    for name in ["libvirtd", "virtlogd"] {
        let first = cleanup.daemon(name).unwrap();
        first.signal(Signal::KILL);
        wait_for("it is restarted", || cleanup.daemon(name).filter(|id| *id != first));
    }
    wait_until("it serves again", serves);

    // The next process on this folder takes the libvirtd for its own. A process on another folder
    // does not.
    let again = ensure(&state_dir).await;
    assert!(
        matches!(again, Libvirtd::Ours { reaper: id, resumed: true } if id == reaper),
        "{again:?}"
    );
    let other = ensure(&dir.path().join("other")).await;
    assert!(matches!(other, Libvirtd::Found), "{other:?}");
    assert_eq!(other.release(DEADLINE).await, Released::NotOurs);

    // Another program's machine keeps libvirtd from being ended.
    let machine = PathBuf::from("/run/libvirt/qemu/someone-elses.pid");
    fs::write(&machine, std::process::id().to_string()).unwrap();
    assert_eq!(
        libvirtd.release(DEADLINE).await,
        Released::LeftRunning { machines: vec!["someone-elses".into()] }
    );
    assert!(serves());

    fs::remove_file(machine).unwrap();
    let daemons: Vec<ProcessId> = cleanup.state().daemons.iter().map(|(_, id)| *id).collect();
    let began = Instant::now();
    assert_eq!(again.release(DEADLINE).await, Released::Ended);
    println!("ended in {:?}", began.elapsed());
    assert!(daemons.iter().all(|id| !id.is_alive()));
    assert!(run_folder::is_on_disk(run), "the mount is removed");

    what_a_dead_host_left(&state_dir).await;
}

/// Kills everything at once, like a power failure: all kinds of files stay, and they do no harm.
async fn what_a_dead_host_left(state_dir: &Path) {
    let libvirtd = ensure(state_dir).await;
    let Libvirtd::Ours { reaper, .. } = libvirtd else { panic!("{libvirtd:?}") };
    let files = ReaperFiles::new(state_dir);
    let daemons = wait_for("both are known", || {
        files.living().map(|state| state.daemons).filter(|all| all.len() == 2)
    });
    reaper.signal(Signal::KILL);
    for (_, id) in daemons {
        id.signal(Signal::KILL);
    }
    // The main thread of a killed daemon is a zombie before its other threads have closed its
    // sockets.
    for socket in ["/run/libvirt/libvirt-sock", "/run/libvirt/virtlogd-sock"] {
        wait_until("no server answers", || UnixStream::connect(socket).is_err());
    }
    assert!(
        UnixListener::bind("/run/libvirt/libvirt-sock").is_err(),
        "the socket's file is still there"
    );
    let next = ensure(state_dir).await;
    assert!(matches!(next, Libvirtd::Ours { resumed: false, .. }), "{next:?}");
    assert!(serves());
    // The next process may end it as well.
    let left = Libvirtd::left_behind(state_dir).unwrap();
    assert_eq!(left.release(DEADLINE).await, Released::Ended);
    assert!(Libvirtd::left_behind(state_dir).is_none());
}
