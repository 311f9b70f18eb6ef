//! The library inside another program: it drops pages, refuses callers, and is harmless where it is
//! not wanted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says by panicking what is wrong"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const SIZE: usize = 1 << 20;

/// Beside this test, where Cargo builds it for this test.
fn library() -> PathBuf {
    std::env::current_exe().unwrap().with_file_name("libagentvm_preload.so")
}

/// Program and library in a place that any user can reach: the build may be in a private home.
/// Another process copies them, because a program cannot start while a fork of this process holds
/// it open for writing.
fn within_reach(dir: &Path) -> (PathBuf, PathBuf) {
    let program = Path::new(env!("CARGO_BIN_EXE_agentvm-preload-subject"));
    let copied = Command::new("cp").arg(program).arg(library()).arg(dir).status().unwrap();
    assert!(copied.success());
    (dir.join(program.file_name().unwrap()), dir.join(library().file_name().unwrap()))
}

struct Subject {
    dir: tempfile::TempDir,
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Subject {
    fn start(how: &str, user: u32) -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        std::fs::write(dir.path().join("memory"), vec![b'g'; SIZE]).unwrap();
        std::os::unix::fs::chown(dir.path(), Some(user), None).unwrap();
        std::os::unix::fs::chown(dir.path().join("memory"), Some(user), None).unwrap();
        let (program, preload) = within_reach(dir.path());
        let mut child = Command::new(program)
            .arg(how)
            .arg(dir.path().join("memory"))
            .env("LD_PRELOAD", preload)
            .env("AGENTVM_RESET_SOCKET", dir.path().join("sock"))
            .env("AGENTVM_GOLDEN_MEMORY", dir.path().join("memory"))
            .uid(user)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut subject = Self { dir, child, to, from };
        assert_eq!(subject.line(), "ready");
        subject
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn tell(&mut self, command: &str) -> String {
        writeln!(self.to.as_ref().unwrap(), "{command}").unwrap();
        self.line()
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    fn ask(&self, request: &[u8]) -> String {
        ask(&self.socket(), request)
    }

    fn ends_well(mut self) {
        drop(self.to.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(socket: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn what_was_written_is_forgotten_as_often_as_root_asks() {
    let mut subject = Subject::start("private", 0);
    for _ in 0..3 {
        assert_eq!(subject.tell("write"), "written");
        assert_eq!(subject.tell("read"), "xx");
        assert_eq!(subject.ask(b"drop\n"), format!("dropped 1 {SIZE}\n"));
        assert_eq!(subject.tell("read"), "gg");
    }
    assert_eq!(std::fs::read(subject.dir.path().join("memory")).unwrap(), vec![b'g'; SIZE]);
    subject.ends_well();
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn a_mapping_that_is_not_whole_and_private_is_left_alone() {
    for (how, why) in
        [("shared", "not private"), ("readonly", "not private"), ("half", "bytes are mapped of")]
    {
        let mut subject = Subject::start(how, 0);
        let said = subject.ask(b"drop\n");
        assert!(
            said.starts_with("error: ") && said.contains(why) && said.ends_with('\n'),
            "{how}: {said}"
        );
        subject.tell("read");
        subject.ends_well();
    }
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn only_the_request_is_understood_and_a_slow_caller_is_left() {
    let mut subject = Subject::start("private", 0);
    subject.tell("write");
    for request in [&b""[..], b"dro", b"drop!", b"DROP\n", &[0; 5], &[b'a'; 4000]] {
        // A caller that sends too much may see a reset connection instead of an answer.
        let mut stream = UnixStream::connect(subject.socket()).unwrap();
        let _ = stream.write_all(request);
        let _ = stream.shutdown(Shutdown::Write);
        let mut said = String::new();
        let read = stream.read_to_string(&mut said);
        assert!(read.is_err() || said.starts_with("error: the request"), "{request:?}: {said}");
    }
    let silent = UnixStream::connect(subject.socket()).unwrap();
    let waiting = Instant::now();
    assert_eq!(subject.tell("read"), "xx", "nothing of this dropped anything");
    assert_eq!(subject.ask(b"drop\n"), format!("dropped 1 {SIZE}\n"));
    assert!(waiting.elapsed() < Duration::from_secs(5));
    drop(silent);
    subject.ends_well();
}

/// Asks as user `who`, in a process of its own.
fn said_to(who: u32, socket: &Path) -> String {
    let script = "import socket, sys\ns = \
        socket.socket(socket.AF_UNIX)\ns.settimeout(10)\ns.connect(sys.argv[1])\n\
        print(s.recv(200).decode())";
    let output =
        Command::new("python3").args(["-c", script]).arg(socket).uid(who).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn nobody_but_root_may_ask_not_even_the_process_s_own_user() {
    let mut subject = Subject::start("private", 64055);
    subject.tell("write");
    let said = said_to(64055, &subject.socket());
    assert!(said.contains("user 64055 may not ask"), "{said}");
    assert_eq!(subject.tell("read"), "xx");
    assert_eq!(subject.ask(b"drop\n"), format!("dropped 1 {SIZE}\n"));
    subject.ends_well();
}

#[test]
fn where_it_is_not_wanted_or_cannot_listen_it_is_harmless() {
    let plain = Command::new("/bin/true").env("LD_PRELOAD", library()).output().unwrap();
    assert!(plain.status.success() && plain.stderr.is_empty());
    let nowhere = Command::new("/bin/true")
        .env("LD_PRELOAD", library())
        .env("AGENTVM_RESET_SOCKET", "/nowhere/sock")
        .env("AGENTVM_GOLDEN_MEMORY", "/nowhere/memory")
        .output()
        .unwrap();
    assert!(nowhere.status.success());
    assert!(
        String::from_utf8_lossy(&nowhere.stderr).contains("/nowhere/sock can't be listened at")
    );
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn its_thread_is_deaf_to_signals_and_the_program_s_own_are_as_before() {
    let subject = Subject::start("private", 0);
    // A thread names itself when it begins; a thread that has answered has begun.
    subject.ask(b"drop\n");
    let blocked = |task: &Path| {
        let status = std::fs::read_to_string(task.join("status")).unwrap();
        let value = |name: &str| {
            status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned()
        };
        (value("Name:"), u64::from_str_radix(&value("SigBlk:"), 16).unwrap())
    };
    let tasks = std::fs::read_dir(format!("/proc/{}/task", subject.child.id())).unwrap();
    let masks: Vec<_> = tasks.map(|task| blocked(&task.unwrap().path())).collect();
    let of = |name: &str| masks.iter().find(|(n, _)| n == name).map(|(_, mask)| *mask);
    let term = 1_u64 << (libc::SIGTERM - 1);
    assert!(of("agentvm-reset").unwrap() & term != 0, "{masks:?}");
    assert!(masks.iter().any(|(name, mask)| name != "agentvm-reset" && *mask == 0), "{masks:?}");
    subject.ends_well();
}
