//! The preload library: its place, and the copy that QEMU's user can read.
//!
//! `LD_PRELOAD` takes no path with a space or a colon. So the copy's name is a digest below the
//! state directory, whose own path is checked.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use agentvm_files::{Durability, WholeFile};
use agentvm_types::{hex, report};
use sha2::{Digest, Sha256};

use crate::HvError;
use crate::files::io;
use crate::libvirt::store::state_folder::StateFolder;

/// The names that the library reads. It is loaded, not linked, so its constants are written here
/// again.
pub const SOCKET_ENV: &str = "AGENTVM_RESET_SOCKET";
pub const MEMORY_ENV: &str = "AGENTVM_GOLDEN_MEMORY";

const NAME: &str = "libagentvm_preload.so";
const PACKAGED: &str = "/usr/lib/agentvm";

/// `AGENTVM_PRELOAD`, else beside the running program (or in Cargo's folder), else in the folder of
/// packages.
pub fn find_preload() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("AGENTVM_PRELOAD") {
        return Some(named.into());
    }
    let program = std::env::current_exe().unwrap_or_default();
    let folder = program.parent().unwrap_or(Path::new("/"));
    let folders = [folder.to_owned(), folder.join(".."), PathBuf::from(PACKAGED)];
    folders.into_iter().map(|folder| folder.join(NAME)).find(|file| file.is_file())
}

/// A copy that QEMU can load, or the reason why there is none.
pub fn install(source: Option<&Path>, state_folder: &StateFolder) -> Result<PathBuf, String> {
    let Some(source) = source else {
        return Err(format!(
            "{NAME} is neither beside the agentvm program nor in {PACKAGED}; put it there, or name \
                it in AGENTVM_PRELOAD"
        ));
    };
    let folder = state_folder.preload();
    let text = folder.to_string_lossy();
    if text.contains([' ', ':', '\t', '\n', '$']) {
        return Err(format!(
            "{text} holds a character that LD_PRELOAD can't; choose another state directory"
        ));
    }
    copy(source, &folder).map_err(|why| report(&why))
}

fn copy(source: &Path, folder: &Path) -> Result<PathBuf, HvError> {
    let library = fs::read(source).map_err(io("read", source))?;
    fs::DirBuilder::new().recursive(true).mode(0o711).create(folder).map_err(io("make", folder))?;
    let at = folder.join(format!("{}.so", hex(&Sha256::digest(&library))));
    if fs::read(&at).is_ok_and(|there| there == library) {
        return Ok(at);
    }
    // Renamed when it is whole: another machine may be starting with it.
    // Two processes may copy it at the same time.
    let file = WholeFile::at(&at, Durability::Process).exact_mode(0o555);
    let file = file.temporary_name(format!(".tmp-{}", std::process::id()));
    file.write(&library).map_err(io("write", &at))?;
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_copied_once_for_all_to_read_and_for_nobody_to_write() {
        let dir = tempfile::tempdir().unwrap();
        let state_folder = StateFolder::new(dir.path().to_owned());
        let source = dir.path().join("lib.so");
        fs::write(&source, "code").unwrap();
        let at = install(Some(&source), &state_folder).unwrap();
        let stat = fs::metadata(&at).unwrap();
        assert_eq!(stat.permissions().mode() & 0o777, 0o555);
        assert_eq!(install(Some(&source), &state_folder).unwrap(), at);
        assert_eq!(
            fs::metadata(&at).unwrap().modified().unwrap(),
            stat.modified().unwrap(),
            "not written again"
        );
        fs::write(&source, "newer").unwrap();
        assert_ne!(
            install(Some(&source), &state_folder).unwrap(),
            at,
            "machines keep the one that they were started with"
        );
    }

    #[test]
    fn it_is_told_by_the_names_that_it_reads() {
        assert_eq!(
            (SOCKET_ENV, MEMORY_ENV),
            (agentvm_preload::SOCKET_ENV, agentvm_preload::MEMORY_ENV)
        );
    }

    #[test]
    fn why_there_is_none_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let state_folder = StateFolder::new(dir.path().to_owned());
        assert!(install(None, &state_folder).unwrap_err().contains("AGENTVM_PRELOAD"));
        assert!(
            install(Some(Path::new("/nowhere")), &state_folder).unwrap_err().contains("/nowhere")
        );
        let odd = StateFolder::new(dir.path().join("a b"));
        assert!(
            install(Some(Path::new("/bin/true")), &odd)
                .unwrap_err()
                .contains("another state directory")
        );
    }
}
