//! The user of runs: uid 1000 `agent`, made in any root file system.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

pub const AGENT_UID: u32 = 1000;
pub const AGENT_GID: u32 = 1000;
pub const AGENT_HOME: &str = "/home/agent";
pub const AGENT_NAME: &str = "agent";

/// Adds the user and the group unless the numbers are taken, and makes the home.
pub fn ensure(root: &Path) -> io::Result<()> {
    append_unless_taken(&root.join("etc/passwd"), "agent:x:1000:1000:agent:/home/agent:/bin/sh")?;
    append_unless_taken(&root.join("etc/group"), "agent:x:1000:")?;
    let home = root.join(AGENT_HOME.trim_start_matches('/'));
    if !home.is_dir() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&home)?;
        std::os::unix::fs::chown(&home, Some(AGENT_UID), Some(AGENT_GID))?;
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o750))?;
    }
    Ok(())
}

/// An image may have a user with this number; then runs have that user.
fn append_unless_taken(path: &Path, line: &str) -> io::Result<()> {
    let present = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(why) if why.kind() == io::ErrorKind::NotFound => String::new(),
        Err(why) => return Err(why),
    };
    let wanted: Vec<&str> = line.split(':').collect();
    let same =
        |field: usize, entry: &str| entry.split(':').nth(field) == wanted.get(field).copied();
    if present.lines().any(|entry| same(0, entry) || same(2, entry)) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = std::fs::File::options().append(true).create(true).open(path)?;
    let gap = if present.is_empty() || present.ends_with('\n') { "" } else { "\n" };
    writeln!(file, "{gap}{line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_with_its_own_uid_1000_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let passwd = dir.path().join("passwd");
        std::fs::write(&passwd, "root:x:0:0::/:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh")
            .unwrap();
        append_unless_taken(&passwd, "agent:x:1000:1000:agent:/home/agent:/bin/sh").unwrap();
        assert!(!std::fs::read_to_string(&passwd).unwrap().contains("agent"));
    }

    #[test]
    fn the_user_is_added_once_even_after_a_missing_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let passwd = dir.path().join("passwd");
        std::fs::write(&passwd, "root:x:0:0::/:/bin/sh").unwrap();
        for _ in 0..2 {
            append_unless_taken(&passwd, "agent:x:1000:1000:agent:/home/agent:/bin/sh").unwrap();
        }
        let text = std::fs::read_to_string(&passwd).unwrap();
        assert_eq!(text, "root:x:0:0::/:/bin/sh\nagent:x:1000:1000:agent:/home/agent:/bin/sh\n");
    }
}
