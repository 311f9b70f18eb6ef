//! Takes the place of the guest agent in the fake's own tests: listens, echoes, counts, and starts
//! a child that gets away.
//!
//! So this crate can test how machines are stopped, killed and found again, without the guest's
//! crate.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |flag: &str| {
        let at = arguments.iter().position(|a| a == flag).map(|at| at + 1);
        at.and_then(|at| arguments.get(at))
            .map(PathBuf::from)
            .ok_or_else(|| std::io::Error::other(flag.to_owned()))
    };
    let work = value("--workspace")?.join("work");
    // A session of its own, like a daemon that a run left behind.
    Command::new("setsid")
        .arg("sh")
        .arg("-c")
        .arg("echo $$ > child.pid; exec sleep 600")
        .current_dir(&work)
        .spawn()?;
    let ticks = work.join("ticks");
    std::thread::spawn(move || {
        for n in 0_u64.. {
            if std::fs::write(&ticks, n.to_string()).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    for stream in UnixListener::bind(value("--socket")?)?.incoming() {
        let mut stream = stream?;
        let mut buffer = [0_u8; 64];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..n])?;
        }
    }
    Ok(())
}
