//! Runs when the library is loaded, before QEMU's `main` and so before its seccomp filter.

use std::ffi::OsString;
use std::os::unix::net::UnixListener;
use std::panic::catch_unwind;

use crate::serve;

/// Where to listen. Its folder belongs to QEMU's user.
pub const SOCKET_ENV: &str = "AGENTVM_RESET_SOCKET";
/// The file that guest memory is a private mapping of.
pub const MEMORY_ENV: &str = "AGENTVM_GOLDEN_MEMORY";

#[used]
// SAFETY: the section holds pointers to functions of exactly this type, which the loader calls
// once.
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = at_load;

extern "C" fn at_load() {
    // A panic must not reach the loader.
    let _ = catch_unwind(|| {
        if let (Some(socket), Some(memory)) =
            (std::env::var_os(SOCKET_ENV), std::env::var_os(MEMORY_ENV))
        {
            listen(&socket, memory);
        }
    });
}

/// A reader of QEMU's log sees the error, and the operator misses the socket.
fn listen(socket: &OsString, memory: OsString) {
    let listener = match UnixListener::bind(socket) {
        Ok(listener) => listener,
        Err(e) => {
            return eprintln!(
                "agentvm: no resets in place, {} can't be listened at: {e}",
                socket.display()
            );
        }
    };
    let thread = std::thread::Builder::new().name("agentvm-reset".to_owned());
    let started = without_signals(|| thread.spawn(move || serve::forever(&listener, &memory)));
    if let Err(e) = started {
        eprintln!("agentvm: no resets in place, no thread: {e}");
    }
}

/// The threads that `job` starts take no signals. QEMU blocks its signals in all of its threads and
/// waits for them; a thread that takes signals would be killed by them.
fn without_signals<T>(job: impl FnOnce() -> T) -> T {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` initialises its argument, and `pthread_sigmask` reads that set and
    // writes the other; both live here.
    let blocked = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) == 0
    };
    let done = job();
    if blocked {
        // SAFETY: the call above has succeeded, so it has written `before`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    }
    done
}
