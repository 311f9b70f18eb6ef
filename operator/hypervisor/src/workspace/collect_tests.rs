//! Hostile trees, made on the host.

use super::*;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
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
        collect(self.dir.path(), spec, &self.target()).unwrap()
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
    tree::empty(tree::open_root(&tree.path("")).unwrap()).unwrap();
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
    assert!(collect(dir.path(), &all(), &dir.path().join("into")).is_err());
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_no_file() {
    let tree = Tree::new();
    let from = std::fs::File::open(tree.file("f", "short")).unwrap();
    let to = std::fs::File::create(tree.dir.path().join("copy")).unwrap();
    assert_eq!(hash_copy(from, to, 100).unwrap(), None);
}
