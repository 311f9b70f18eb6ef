//! Asks the preload library inside a machine's QEMU to drop everything that the machine wrote to
//! its memory.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::HvError;
use crate::files::io;

/// The patience with the whole answer. The thread has nothing else to do, and dropping takes
/// milliseconds for gigabytes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than any answer.
const ANSWER_MAX: usize = 512;

/// A connection to the library of one process.
#[derive(Debug)]
pub struct Library {
    stream: UnixStream,
}

impl Library {
    /// The socket is in a folder that QEMU's user may write: another process's socket may be in its
    /// place, and root must not tell that process to drop anything.
    pub fn connect(socket: &Path, of: u32) -> Result<Self, HvError> {
        let stream =
            open(socket, PATIENCE).map_err(io("reach the preloaded library at", socket))?;
        let peer =
            socket_peercred(&stream).map_err(|e| io("see who listens at", socket)(e.into()))?;
        let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap_or(0);
        if pid == of {
            return Ok(Self { stream });
        }
        let detail = format!("process {pid} listens there, not the machine's {of}");
        Err(HvError::Refused {
            what: format!("reach the preloaded library at {}", socket.display()),
            detail,
        })
    }

    /// Everything of a memory of `bytes`, which must be one mapping.
    pub fn drop_pages(mut self, bytes: u64) -> Result<(), HvError> {
        let what = "drop a machine's private pages";
        let mut said = String::new();
        let asked = self.stream.write_all(b"drop\n");
        let heard = asked.and_then(|()| hear(&mut self.stream, &mut said, PATIENCE));
        let silent = format!("{what}: the preloaded library doesn't answer");
        heard.map_err(HvError::failed(silent))?;
        check(said.trim_end(), bytes)
            .map_err(|detail| HvError::Refused { what: what.to_owned(), detail })
    }
}

/// The listener may accept no connection: connecting waits for room in the queue as long as sending
/// waits.
fn open(socket: &Path, patience: Duration) -> std::io::Result<UnixStream> {
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&fd, Timeout::Send, Some(patience))?;
    connect(&fd, &SocketAddrUnix::new(socket)?)?;
    Ok(fd.into())
}

/// The whole answer, up to its largest size. The time covers all of it: a peer that sends a byte
/// now and then gets no more.
fn hear(stream: &mut UnixStream, said: &mut String, patience: Duration) -> std::io::Result<()> {
    let deadline = Instant::now() + patience;
    let mut heard = Vec::new();
    let mut part = [0; ANSWER_MAX];
    while heard.len() < ANSWER_MAX {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part)? {
            0 => break,
            length => heard.extend_from_slice(&part[..length]),
        }
    }
    said.push_str(&String::from_utf8_lossy(&heard));
    Ok(())
}

fn check(said: &str, bytes: u64) -> Result<(), String> {
    if said == format!("dropped 1 {bytes}") {
        return Ok(());
    }
    Err(format!(
        "the preloaded library answered {said:?} instead of having dropped one mapping of {bytes} \
            bytes"
    ))
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
        assert!(
            Library::connect(&socket, me).unwrap().drop_pages(1).unwrap_err().to_string().len()
                < 1000
        );
        serve.join().unwrap();
        assert!(Library::connect(Path::new("/nowhere"), me).is_err());
    }

    #[test]
    fn who_lets_nobody_in_or_dribbles_costs_a_moment_only() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("sock");
        let listener =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&socket).unwrap()).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let moment = Duration::from_millis(50);
        let in_the_queue: Vec<_> = (0..8).map_while(|_| open(&socket, moment).ok()).collect();
        assert!(in_the_queue.len() < 8, "the queue has an end");
        let (mut us, mut them) = UnixStream::pair().unwrap();
        let dribble = std::thread::spawn(move || {
            while them.write_all(b"x").is_ok() {
                std::thread::yield_now();
            }
        });
        let slow = std::thread::spawn(move || {
            hear(&mut us, &mut String::new(), Duration::ZERO).unwrap_err().kind()
        });
        assert_eq!(slow.join().unwrap(), std::io::ErrorKind::TimedOut);
        dribble.join().unwrap();
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
