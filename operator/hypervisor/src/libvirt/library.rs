//! Asks the library inside a machine's QEMU to drop what the machine wrote to its memory.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;

use crate::HvError;
use crate::files::io;

/// Of a thread that has nothing else to do. Dropping takes milliseconds for gigabytes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than any answer.
const ANSWER_MAX: u64 = 512;

/// A connection to the library of one process.
#[derive(Debug)]
pub struct Library {
    stream: UnixStream,
}

impl Library {
    /// The socket stands in a folder of QEMU's own: another process's may have been put in its place, and root must not tell that one
    /// to drop anything.
    pub fn connect(socket: &Path, of: u32) -> Result<Self, HvError> {
        let stream = UnixStream::connect(socket).map_err(io("reach the preloaded library at", socket))?;
        let timeouts = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        timeouts.map_err(io("reach the preloaded library at", socket))?;
        let peer = socket_peercred(&stream).map_err(|e| io("see who listens at", socket)(e.into()))?;
        let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap_or(0);
        if pid == of {
            return Ok(Self { stream });
        }
        let detail = format!("process {pid} listens there, not the machine's {of}");
        Err(HvError::Refused { what: format!("reach the preloaded library at {}", socket.display()), detail })
    }

    /// Everything of a memory of `bytes`, which must be one mapping.
    pub fn drop_pages(mut self, bytes: u64) -> Result<(), HvError> {
        let refused = |detail: String| HvError::Refused { what: "drop a machine's private pages".to_owned(), detail };
        let mut said = String::new();
        let asked = self.stream.write_all(b"drop\n");
        let heard = asked.and_then(|()| self.stream.take(ANSWER_MAX).read_to_string(&mut said));
        heard.map_err(|e| refused(format!("the preloaded library doesn't answer: {e}")))?;
        check(said.trim_end(), bytes).map_err(refused)
    }
}

fn check(said: &str, bytes: u64) -> Result<(), String> {
    if said == format!("dropped 1 {bytes}") {
        return Ok(());
    }
    Err(format!("the preloaded library answered {said:?} instead of having dropped one mapping of {bytes} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_whole_mapping_will_do() {
        assert!(check("dropped 1 4096", 4096).is_ok());
        for other in ["dropped 2 4096", "dropped 1 4095", "error: x", "", "dropped 1 4096 "] {
            assert!(check(other, 4096).unwrap_err().contains("one mapping of 4096"), "{other}");
        }
    }

    #[test]
    fn a_peer_that_says_nothing_or_too_much_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let serve = std::thread::spawn(move || {
            drop(listener.accept().unwrap());
            let (mut endless, _) = listener.accept().unwrap();
            while endless.write_all(&[b'x'; 4096]).is_ok() {}
        });
        let me = std::process::id();
        assert!(Library::connect(&socket, me).unwrap().drop_pages(1).is_err());
        assert!(Library::connect(&socket, me).unwrap().drop_pages(1).unwrap_err().to_string().len() < 1000);
        serve.join().unwrap();
        assert!(Library::connect(Path::new("/nowhere"), me).is_err());
    }

    #[test]
    fn another_process_is_told_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let refused = Library::connect(&socket, 1).unwrap_err().to_string();
        assert!(refused.contains("not the machine's 1"), "{refused}");
        let mut heard = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"");
    }
}
