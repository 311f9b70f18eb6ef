//! The socket: it serves one caller at a time. The caller must be root and send one short line.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use crate::drop::private_pages_of;

const REQUEST: &[u8] = b"drop\n";
/// The patience with a caller. The caller is on this machine and need not think.
const PATIENCE: Duration = Duration::from_secs(1);

/// Serves for as long as the process lives.
pub fn forever(listener: &UnixListener, memory: &OsStr) {
    loop {
        match listener.accept() {
            Ok((mut caller, _)) => {
                let answer = answer(&mut caller, memory);
                // A caller that has gone needs no answer.
                let _ = caller.write_all(answer.as_bytes());
            }
            // For example, the descriptors have run out. QEMU goes on, and so must this thread,
            // without spinning.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn answer(caller: &mut UnixStream, memory: &OsStr) -> String {
    let dropped =
        admit(caller).and_then(|()| request(caller)).and_then(|()| private_pages_of(memory));
    match dropped {
        Ok((mappings, bytes)) => format!("dropped {mappings} {bytes}\n"),
        Err(why) => format!("error: {}\n", why.replace('\n', " ")),
    }
}

fn admit(caller: &UnixStream) -> Result<(), String> {
    let mut who = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length =
        libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(|e| e.to_string())?;
    // SAFETY: both pointers are to locals that live through the call, and `length` is the size of
    // the value that the first points to.
    let asked = unsafe {
        libc::getsockopt(
            caller.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut who).cast(),
            &raw mut length,
        )
    };
    match (asked, who.uid) {
        (0, 0) => Ok(()),
        (0, uid) => Err(format!("user {uid} may not ask for this")),
        _ => Err("the caller can't be identified".to_owned()),
    }
}

/// Reads no more bytes than the request has, within the patience, however slowly they come.
fn request(caller: &mut UnixStream) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    caller.set_write_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    let mut said = [0; REQUEST.len()];
    let mut filled = 0;
    while filled < said.len() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("the request did not come in time".to_owned());
        }
        caller.set_read_timeout(Some(left)).map_err(|e| e.to_string())?;
        match caller.read(&mut said[filled..]) {
            Ok(0) => return Err("the request ends too early".to_owned()),
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(format!("the request can't be read: {e}")),
        }
    }
    if said == *REQUEST { Ok(()) } else { Err("the request is not known".to_owned()) }
}
