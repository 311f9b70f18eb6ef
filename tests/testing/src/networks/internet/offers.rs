//! The offers of the test internet to real tools: packages for pip and npm, and a repository over
//! SSH.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Internet, SSH, said};
use crate::holds_within;

/// Makes a package of each kind, from nothing but the standard library.
const PACKAGES: &str = include_str!("packages.py");

/// The words that the names of the packages begin with: each has an `-agent` for pip and a `-tool`
/// for npm.
const NAMES: [&str; 2] = ["tiny", "other"];
/// Variables that lead pip and npm to the packages.
pub const REGISTRIES: [(&str, &str); 3] = [
    ("PIP_INDEX_URL", "http://registry.test/simple"),
    ("PIP_TRUSTED_HOST", "registry.test"),
    ("NPM_CONFIG_REGISTRY", "http://registry.test/"),
];
/// Commands that install two of the packages, and use them; for a setup or a run.
pub const INSTALL: [&str; 3] = [
    "pip install --quiet --disable-pip-version-check \
     --index-url http://registry.test/simple --trusted-host registry.test tiny-agent",
    "npm install --global --silent --no-audit --no-fund --no-update-notifier --registry http://registry.test/ tiny-tool",
    "tiny-agent && tiny-tool",
];
/// The other two, as plainly as a person does it with [`REGISTRIES`].
pub const INSTALL_OTHERS: &str = "pip install other-agent >&2 && npm install --global other-tool \
    >&2 && other-agent && other-tool";
/// The text that the last of these commands prints.
pub const INSTALLED: &str = "installed by pip\ninstalled by npm";
/// The path of the repository, and the content of its one file.
pub const REPOSITORY: &str = "ssh://root@git.test/root/repository";
pub const IN_REPOSITORY: &str = "cloned over SSH";

impl Internet {
    /// Serves the packages at `registry.test`.
    pub fn offer_packages(&self) {
        for name in NAMES {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path();
            said(Command::new("python3").args(["-c", PACKAGES]).arg(path).arg(name));
            let file = |name: &str| std::fs::read(path.join(name)).unwrap();
            let put = |path: &str, kind: &str, body: Vec<u8>| self.pages.put(path, kind, body);
            let wheel = format!("{name}_agent-1.0-py3-none-any.whl");
            let index = format!(
                "<!DOCTYPE html><html><body><a href=\"/wheels/{wheel}\">{wheel}</a></body></html>"
            );
            let binary = "application/octet-stream";
            put(&format!("/simple/{name}-agent/"), "text/html", index.into_bytes());
            put(&format!("/wheels/{wheel}"), binary, file("wheel"));
            put(&format!("/{name}-tool"), "application/json", file("index"));
            put(&format!("/{name}-tool/-/{name}-tool-1.0.0.tgz"), binary, file("tarball"));
        }
    }
}

/// An SSH server at `git.test`, with a repository; it ends with the value.
pub struct GitServer {
    server: Child,
    folder: tempfile::TempDir,
}

impl GitServer {
    pub fn new(internet: &Internet) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        std::fs::create_dir_all(home.join(".ssh")).unwrap();
        repository(&home.join("repository"));
        let in_folder = |name: &str| folder.path().join(name).display().to_string();
        said(Command::new("ssh-keygen").args([
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            "test",
            "-f",
            &in_folder("key"),
        ]));
        std::fs::copy(in_folder("key.pub"), home.join(".ssh/authorized_keys")).unwrap();
        said(Command::new("dropbearkey").args(["-t", "ed25519", "-f", &in_folder("host_key")]));
        // Its root's home is this folder, in the mount namespace that `ip netns exec` makes. So no
        // other process sees it there.
        let serve = format!(
            "mount --bind {} /root && exec dropbear -F -E -s -r {} -p {SSH}:22 -P ''",
            home.display(),
            in_folder("host_key")
        );
        let server = Command::new("ip")
            .args(["netns", "exec", internet.namespace(), "sh", "-c", &serve])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let this = Self { server, folder };
        let listens = || internet.run("ss", &["-Hlnt"]).contains(&format!("{SSH}:22"));
        assert!(holds_within(Duration::from_secs(10), listens), "dropbear never listened");
        this
    }

    /// The private key that it takes.
    pub fn key(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("key")).unwrap()
    }

    /// The line of `known_hosts` that it is known by.
    pub fn host(&self) -> String {
        let text = said(
            Command::new("dropbearkey").args(["-y", "-f"]).arg(self.folder.path().join("host_key")),
        );
        format!("git.test {}", text.lines().find(|line| line.starts_with("ssh-ed25519")).unwrap())
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn repository(at: &Path) {
    let git = |arguments: &[&str]| {
        let who = [
            "-c",
            "user.name=test",
            "-c",
            "user.email=test@git.test",
            "-c",
            "init.defaultBranch=main",
        ];
        said(Command::new("git").args(who).arg("-C").arg(at).args(arguments));
    };
    std::fs::create_dir_all(at).unwrap();
    git(&["init", "--quiet"]);
    std::fs::write(at.join("file"), IN_REPOSITORY).unwrap();
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "A file"]);
}
