//! A setting of git for a machine of one's own, in any root file system.
//!
//! Git refuses a repository that another user owns, because on a shared computer its hooks could
//! be an attack. In a machine both users belong to one tenant: the setup of its golden is root's,
//! its runs are mostly the other user's.

use std::io::{self, Write as _};
use std::path::Path;

const ANY_OWNER: &str = "[safe]\n\tdirectory = *\n";

/// Adds the setting to the system's configuration unless it is there.
pub fn trust_every_owner(root: &Path) -> io::Result<()> {
    let path = root.join("etc/gitconfig");
    let present = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(why) if why.kind() == io::ErrorKind::NotFound => String::new(),
        Err(why) => return Err(why),
    };
    if present.contains(ANY_OWNER) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = std::fs::File::options().append(true).create(true).open(path)?;
    let gap = if present.is_empty() || present.ends_with('\n') { "" } else { "\n" };
    write!(file, "{gap}{ANY_OWNER}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_added_once_and_the_rest_stays() {
        let root = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            trust_every_owner(root.path()).unwrap();
        }
        let path = root.path().join("etc/gitconfig");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), ANY_OWNER);
        std::fs::write(&path, "[core]\n\teditor = vi").unwrap();
        for _ in 0..2 {
            trust_every_owner(root.path()).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("[core]\n\teditor = vi\n{ANY_OWNER}"));
    }
}
