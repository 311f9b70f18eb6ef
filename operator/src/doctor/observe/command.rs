//! Runs a short program with a deadline and returns its output. Never uses a shell.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::clock::Clock;

/// Long enough for `virsh` with a daemon that is just starting; short, because a person waits.
const DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// The standard output of a program. The error is a text for people.
pub fn output<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: &[S]) -> Result<String, String> {
    let program = program.as_ref();
    let name = program.to_string_lossy().into_owned();
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("there is no program {name}"),
            _ => format!("could not start {name}: {error}"),
        })?;
    let (out, err) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let status = wait(&mut child)
        .ok_or_else(|| format!("{name} did not end within {} s", DEADLINE.as_secs()))?;
    let text = |reader: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
    };
    let (out, err) = (text(out), text(err));
    if status.success() {
        return Ok(out);
    }
    let said = err
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("it printed no error")
        .trim()
        .to_owned();
    Err(format!("{name}: {said}"))
}

/// Reads a pipe in a thread, because a full pipe that is not read blocks the writer.
fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // After an error, the bytes read so far are the result.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// Waits until the deadline, then kills the child. `None` if the child was killed or waiting
/// failed.
fn wait(child: &mut Child) -> Option<std::process::ExitStatus> {
    let clock = Clock::system();
    let end = clock.instant() + DEADLINE;
    while clock.instant() < end {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => thread::sleep(POLL),
            Err(_) => break,
        }
    }
    // The child may have ended just now. If it can't be killed, no further step would help.
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// The path of a program: on the PATH, or in the folders of daemons, which a user's PATH may lack.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(daemons)
        .map(|dir| dir.join(program))
        .find(|file| executable(file))
}

/// Whether any user may execute this file.
pub fn executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_errors_and_absence_are_told_apart() {
        assert_eq!(output("echo", &["hello"]), Ok("hello\n".to_owned()));
        assert_eq!(
            output("no-such-program", &[""; 0]),
            Err("there is no program no-such-program".to_owned())
        );
        assert!(
            output("ls", &["/no/such/path"])
                .is_err_and(|why| why.starts_with("ls: ") && why.contains("/no/such/path"))
        );
        assert!(output("false", &[""; 0]).is_err_and(|why| why.contains("printed no error")));
    }

    #[test]
    fn programs_are_found_and_folders_are_not_programs() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program").is_none());
        assert!(!executable(Path::new("/usr")));
    }
}
