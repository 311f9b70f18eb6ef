//! Hostile trees, made on the host.

use super::*;
use rustix::fs::{Mode, OFlags};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        Self::below("/var/tmp")
    }

    /// For trees that are large: a file system in memory makes them fast.
    fn in_memory() -> Self {
        Self::below("/dev/shm")
    }

    fn below(folder: &str) -> Self {
        let dir = tempfile::tempdir_in(folder).unwrap();
        std::fs::create_dir(dir.path().join("output")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("output").join(name)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("into")
    }

    fn collect(&self, spec: &CollectSpec) -> Collected {
        collect(self.dir.path(), spec, &self.target(), Cancel::default()).unwrap()
    }
}

/// The permission bits of the copy.
fn mode_of(tree: &Tree, name: &str) -> u32 {
    std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(tree.target().join(name)).unwrap())
        & 0o7777
}

fn all() -> CollectSpec {
    CollectSpec {
        include: vec!["**".to_owned()],
        max_bytes: 1 << 20,
        max_files: 100,
        max_entries: 1000,
    }
}

fn paths(found: &Collected) -> Vec<&str> {
    found.files.iter().map(|f| f.path.as_str()).collect()
}

#[test]
fn files_are_copied_hashed_and_sorted() {
    let tree = Tree::new();
    tree.file("z.txt", "abc");
    tree.file("a/b/c", "");
    let found = tree.collect(&all());
    assert_eq!(paths(&found), ["a/b/c", "z.txt"]);
    assert_eq!(
        found.files[1].sha256,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(std::fs::read(tree.target().join("z.txt")).unwrap(), b"abc");
    assert_eq!(found.too_large, None);
    // A second time replaces the first.
    std::fs::remove_file(tree.path("z.txt")).unwrap();
    assert_eq!(paths(&tree.collect(&all())), ["a/b/c"]);
    assert!(!tree.target().join("z.txt").exists());
}

#[test]
fn globs_choose() {
    let tree = Tree::new();
    tree.file("a.xml", "1");
    tree.file("d/b.xml", "2");
    tree.file("d/c.txt", "3");
    let found = tree.collect(&CollectSpec { include: vec!["**/*.xml".to_owned()], ..all() });
    assert_eq!(paths(&found), ["a.xml", "d/b.xml"]);
    assert_eq!(found.skipped_total, 0, "what wasn't asked for isn't skipped");
}

#[test]
fn links_pipes_and_sockets_are_not_read() {
    let tree = Tree::new();
    let secret = tree.dir.path().join("secret");
    std::fs::write(&secret, "host secret").unwrap();
    std::os::unix::fs::symlink(&secret, tree.path("link")).unwrap();
    std::os::unix::fs::symlink("/etc", tree.path("etc")).unwrap();
    std::os::unix::fs::symlink("..", tree.path("up")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        tree.path("fifo"),
        FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.path("socket")).unwrap();
    tree.file("ok", "1");
    let found = tree.collect(&all());
    assert_eq!(paths(&found), ["ok"]);
    assert_eq!(found.skipped_total, 5);
}

#[test]
fn a_guest_s_link_is_a_plain_file_that_says_so_and_is_not_read() {
    let tree = Tree::new();
    for (name, mode) in
        [("link", 0o120_777_u32), ("device", 0o020_666), ("script", 0o100_755), ("text", 0o100_644)]
    {
        let path = tree.file(name, "/etc/shadow");
        rustix::fs::setxattr(
            &path,
            "user.virtfs.mode",
            &mode.to_le_bytes(),
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
    }
    let odd = tree.file("odd", "x");
    rustix::fs::setxattr(&odd, "user.virtfs.mode", b"1234567", rustix::fs::XattrFlags::empty())
        .unwrap();
    let found = tree.collect(&all());
    assert_eq!(paths(&found), ["script", "text"]);
    assert!(found.files[0].executable);
    assert_eq!(mode_of(&tree, "script"), 0o700);
    assert_eq!(mode_of(&tree, "text"), 0o600);
    assert!(!found.files[1].executable);
}

#[test]
fn a_sparse_bomb_counts_as_what_it_says() {
    let tree = Tree::new();
    tree.file("a", "small");
    std::fs::File::create(tree.path("bomb")).unwrap().set_len(1 << 40).unwrap();
    let found = tree.collect(&all());
    assert_eq!(paths(&found), ["a"]);
    assert!(found.too_large.unwrap().contains("bomb"));
    assert!(!tree.target().join("bomb").exists());
}

#[test]
fn limits_of_bytes_files_and_entries_hold() {
    let tree = Tree::new();
    for n in 0..20 {
        tree.file(&format!("f{n:02}"), "0123456789");
    }
    let bytes = tree.collect(&CollectSpec { max_bytes: 55, ..all() });
    assert_eq!((bytes.files.len(), bytes.too_large.is_some()), (5, true));
    let exact =
        tree.collect(&CollectSpec { max_bytes: 200, max_files: 20, max_entries: 20, ..all() });
    assert_eq!((exact.files.len(), exact.too_large), (20, None));
    let files = tree.collect(&CollectSpec { max_files: 7, ..all() });
    assert_eq!((files.files.len(), files.too_large.is_some()), (7, true));
    let entries = tree.collect(&CollectSpec { max_entries: 9, ..all() });
    assert_eq!((entries.files.len(), entries.too_large.is_some()), (9, true));
}

#[test]
fn odd_names_are_skipped_and_named_in_a_way_that_can_be_shown() {
    let tree = Tree::new();
    tree.file("new\nline", "1");
    tree.file("esc\u{1b}[2J", "1");
    std::fs::write(tree.path("").join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "1").unwrap();
    tree.file("späť 日本.txt", "1");
    let found = tree.collect(&all());
    assert_eq!(paths(&found), ["späť 日本.txt"]);
    assert_eq!(found.skipped_total, 3);
}

#[test]
fn deep_trees_end() {
    let tree = Tree::new();
    let mut at = tree::open_root(&tree.path("")).unwrap();
    for _ in 0..500 {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = tree::open_folder(&at, "d").unwrap();
    }
    rustix::fs::openat(&at, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
    let found = tree.collect(&all());
    assert_eq!(found.files.len(), 0);
    assert_eq!(found.skipped_total, 1);
    let mut budget = Budget::of_entries(10_000, std::time::Duration::from_mins(1));
    tree::empty(tree::open_root(&tree.path("")).unwrap(), &mut budget).unwrap();
}

#[test]
fn hundreds_of_skipped_entries_are_counted_and_some_are_named() {
    let tree = Tree::new();
    for n in 0..250 {
        std::os::unix::fs::symlink("x", tree.path(&format!("l{n}"))).unwrap();
    }
    let found = tree.collect(&all());
    assert_eq!((found.skipped.len(), found.skipped_total), (MAX_SKIPPED, 250));
}

#[test]
fn an_output_that_is_a_link_is_not_entered() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc", dir.path().join("output")).unwrap();
    let into = dir.path().join("into");
    assert!(collect(dir.path(), &all(), &into, Cancel::default()).is_err());
    assert!(!into.exists());
}

#[test]
fn empty_folders_are_kept_where_the_patterns_take_them() {
    let tree = Tree::new();
    std::fs::create_dir_all(tree.path("a/empty/inner")).unwrap();
    tree.file("b/full", "1");
    let found = tree.collect(&all());
    assert_eq!(paths(&found), ["b/full"]);
    assert!(tree.target().join("a/empty/inner").is_dir());
    tree.collect(&CollectSpec { include: vec!["b/**".to_owned()], ..all() });
    assert!(tree.target().join("b/full").exists() && !tree.target().join("a").exists());
}

/// Runs one test of this file again, in a process that may open no more than `limit` files.
fn in_child(test: &str, limit: u64) {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    child.args(["--exact", &name, "--test-threads=1", "--nocapture"]);
    let done = child.env("AGENTVM_TEST_NOFILE", limit.to_string()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && said.contains("1 passed"), "{said}\n{done:?}");
}

/// In the child: the limit is in force. `None` in the parent, which has a child do the test.
fn few_descriptors(test: &str, limit: u64) -> Option<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if std::env::var_os("AGENTVM_TEST_NOFILE").is_none() {
        in_child(test, limit);
        return None;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) }).unwrap();
    Some(())
}

fn many_folders(tree: &Tree, number: usize) {
    for n in 0..number {
        std::fs::create_dir(tree.path(&format!("d{n}"))).unwrap();
    }
    tree.file("d7/deep/file", "1");
}

#[test]
fn a_thousand_folders_take_no_more_than_64_descriptors() {
    let Some(()) = few_descriptors("a_thousand_folders_take_no_more_than_64_descriptors", 64)
    else {
        return;
    };
    let tree = Tree::new();
    many_folders(&tree, 1000);
    let found = tree.collect(&CollectSpec { max_entries: 2000, ..all() });
    assert_eq!((paths(&found), found.skipped_total), (vec!["d7/deep/file"], 0));
}

#[test]
fn thirty_thousand_folders_take_no_more_than_64_descriptors() {
    let Some(()) = few_descriptors("thirty_thousand_folders_take_no_more_than_64_descriptors", 64)
    else {
        return;
    };
    let tree = Tree::in_memory();
    many_folders(&tree, 30_000);
    let found = tree.collect(&CollectSpec { max_entries: 100_000, ..all() });
    assert_eq!((paths(&found), found.skipped_total), (vec!["d7/deep/file"], 0));
}

#[test]
fn a_lack_of_descriptors_fails_the_collection_and_skips_nothing() {
    let Some(()) =
        few_descriptors("a_lack_of_descriptors_fails_the_collection_and_skips_nothing", 24)
    else {
        return;
    };
    let tree = Tree::new();
    tree.file(&format!("{}file", "d/".repeat(40)), "1");
    let why = collect(tree.dir.path(), &all(), &tree.target(), Cancel::default()).unwrap_err();
    let HvError::Io { source, .. } = &why else { panic!("{why:?}") };
    assert_eq!(source.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()), "{why:?}");
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn a_full_disk_fails_the_collection_and_leaves_no_half_output() {
    let tree = Tree::new();
    tree.file("a", "small");
    tree.file("b", &"x".repeat(1 << 20));
    let disk = tree.dir.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let size = std::ffi::CString::new("size=256k").unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", &disk, "tmpfs", flags, size.as_c_str()).unwrap();
    let spec = CollectSpec { max_bytes: 8 << 20, ..all() };
    let done = collect(tree.dir.path(), &spec, &disk.join("into"), Cancel::default());
    let gone = !disk.join("into").exists();
    rustix::mount::unmount(&disk, rustix::mount::UnmountFlags::DETACH).unwrap();
    let Err(HvError::Io { source, .. }) = done else { panic!("{done:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    assert!(gone);
}

/// The steps of a collection of this many entries, in folders of ten.
fn steps(entries: usize) -> u64 {
    let tree = Tree::in_memory();
    for n in 0..entries / 10 {
        std::fs::create_dir_all(tree.path(&format!("a/b/d{n}"))).unwrap();
        for file in 0..9 {
            std::fs::write(tree.path(&format!("a/b/d{n}/{file}")), "1").unwrap();
        }
    }
    let spec = CollectSpec { max_files: 10_000, max_entries: 100_000, ..all() };
    let hour = std::time::Duration::from_hours(1);
    let mut budget = Budget::new(spec.max_entries, spec.max_bytes, hour, Cancel::default());
    collect_within(tree.dir.path(), &spec, &tree.target(), &mut budget).unwrap();
    budget.worked()
}

#[test]
fn ten_times_the_entries_cost_at_most_eleven_times_the_steps() {
    let (few, many) = (steps(500), steps(5000));
    assert!(many <= 11 * few, "{few} steps became {many}");
}

#[test]
fn a_collection_that_is_cancelled_or_too_slow_is_an_error_of_the_host() {
    let tree = Tree::new();
    tree.file("a", "1");
    let cancel = Cancel::default();
    cancel.cancel();
    let why = collect(tree.dir.path(), &all(), &tree.target(), cancel).unwrap_err();
    assert!(why.to_string().contains("cancelled"), "{why}");
    assert!(!tree.target().exists());
    let mut late = Budget::new(10, 10, std::time::Duration::ZERO, Cancel::default());
    let why = collect_within(tree.dir.path(), &all(), &tree.target(), &mut late).unwrap_err();
    assert!(why.to_string().contains("longer than 0 s"), "{why}");
}

#[test]
fn errors_of_this_host_are_never_the_guest_s() {
    use rustix::io::Errno;
    for ours in [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOSPC,
        Errno::IO,
        Errno::DQUOT,
        Errno::ROFS,
        Errno::ACCESS,
        Errno::PERM,
        Errno::INTR,
    ] {
        assert_eq!(found::<()>(Err(ours)).unwrap_err(), ours);
    }
    assert!(matches!(found::<()>(Err(Errno::NOENT)), Ok(Found::Theirs)));
}
