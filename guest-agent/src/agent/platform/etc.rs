//! The few small files of /etc that name the machine.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use rustix::fs::OFlags;

/// Puts a new file in the place of the old one, because an image may have a link there that leads
/// elsewhere or nowhere.
pub fn replace(path: &str, content: &str) -> io::Result<()> {
    let temporary = format!("{path}.agentvm");
    if let Some((dir, _)) = path.rsplit_once('/') {
        fs::create_dir_all(dir)?;
    }
    fs::write(&temporary, content)?;
    fs::rename(&temporary, path)
}

/// Like [`replace`], but overwrites a plain file: making a new one costs an emulated machine 15 ms,
/// because each of its steps is a first one. No attempt runs, so nothing reads the file meanwhile.
pub fn put(path: &str, content: &str) -> io::Result<()> {
    match plain(path) {
        Some((mut file, length)) => {
            file.write_all(content.as_bytes())?;
            let wanted = content.len() as u64;
            if length > wanted { file.set_len(wanted) } else { Ok(()) }
        }
        None => replace(path, content),
    }
}

/// Opened, with its length, if it has no other name and leads nowhere else.
fn plain(path: &str) -> Option<(File, u64)> {
    let no_link = i32::try_from(OFlags::NOFOLLOW.bits()).ok()?;
    let file = File::options().write(true).custom_flags(no_link).open(path).ok()?;
    let stat = file.metadata().ok()?;
    (stat.is_file() && stat.nlink() == 1).then_some((file, stat.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_gone_whatever_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/hostname").display().to_string();
        let other = dir.path().join("other");
        let says = |content: &str| {
            put(&path, content).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        };
        says("nothing was there\n");
        says("short\n");
        says("longer than before\n");
        fs::write(&other, "other").unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        says("no link any more\n");
        fs::remove_file(&path).unwrap();
        fs::hard_link(&other, &path).unwrap();
        says("one name only\n");
        assert_eq!(fs::read_to_string(&other).unwrap(), "other");
    }
}
