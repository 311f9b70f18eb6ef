//! A process that has been taken over: it tries each action on its standard input, and prints the
//! outcome.
//!
//! A line is a verb and its object. The answer is `tried VERB OBJECT: done`, or the kind of the
//! error.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as it should be"
)]

use std::io::{BufRead, Lines, StdinLock, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A peer that answers at once may take this long.
const PATIENCE: Duration = Duration::from_millis(300);

fn main() {
    let mut lines = std::io::stdin().lock().lines();
    while let Some(line) = lines.next() {
        let line = line.unwrap();
        let (verb, object) = line.split_once(' ').unwrap();
        if verb == "talk" {
            return talk(object.parse().unwrap(), lines);
        }
        let done = attempt(verb, Path::new(object));
        let came = done.map_or_else(|why| format!("{:?}", why.kind()), |()| "done".to_owned());
        println!("tried {line}: {came}");
    }
}

fn attempt(verb: &str, path: &Path) -> std::io::Result<()> {
    let at = || path.to_str().unwrap().parse::<SocketAddr>().unwrap();
    let open = |write: bool| std::fs::OpenOptions::new().read(!write).write(write).open(path);
    match verb {
        "read" => open(false).map(drop),
        "write" => open(true).map(drop),
        "list" => std::fs::read_dir(path).map(drop),
        "make" => std::fs::File::create_new(path).and_then(|_| std::fs::remove_file(path)),
        "remove" => std::fs::remove_file(path),
        "connect" => UnixStream::connect(path).map(drop),
        "tcp" => TcpStream::connect_timeout(&at(), PATIENCE).map(drop),
        "udp" => UdpSocket::bind(if at().is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?
            .send_to(b"x", at())
            .map(drop),
        "signal" => Ok(rustix::process::test_kill_process(
            rustix::process::Pid::from_raw(path.to_str().unwrap().parse().unwrap()).unwrap(),
        )?),
        other => panic!("{other}"),
    }
}

/// Keeps one connection, and sends a byte over it for each further line. `said` means that the
/// kernel has the byte.
fn talk(at: SocketAddr, further_lines: Lines<StdinLock<'_>>) {
    let mut stream = TcpStream::connect(at).unwrap();
    for _ in further_lines {
        let _ = stream.write_all(b"x");
        println!("said");
    }
}
