//! Frames that wait in a tap when a machine is cut off.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::{Lab, inside};

/// A reader of a tap, as QEMU is one.
struct Reader {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Reader {
    fn of(tap: &str) -> Self {
        let mut python = Command::new("python3");
        python
            .args(["-c", include_str!("waiting.py"), tap])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = python.spawn().unwrap();
        let (stdin, stdout) =
            (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let mut reader = Self { process, stdin, stdout };
        assert_eq!(reader.line(), "plugged in");
        reader
    }

    fn frames(&mut self) -> u32 {
        self.stdin.write_all(b"\n").unwrap();
        self.line().parse().unwrap()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn what_waits_for_a_machine_is_not_the_next_one_s() {
    if !inside("drained::what_waits_for_a_machine_is_not_the_next_one_s") {
        return;
    }
    let lab = Lab::new(1);
    let machine = &lab.machines[0];
    let nic = lab.link(machine).nic;
    let mut reader = Reader::of(&nic.tap);
    lab.enforce();
    lab.open(machine);
    // It goes straight into the device: another test checks the rules.
    let fill = |count: u32| {
        let python = format!(
            "import socket\ns = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\ns.bind(('{}', \
                0))\nfor _ in range({count}): s.send(b'\\xff' * 60)",
            nic.tap
        );
        let done = Command::new("python3").args(["-c", &python]).status().unwrap();
        assert!(done.success());
    };
    reader.frames();
    fill(100);
    assert!(reader.frames() >= 100, "what is sent waits for its reader");
    fill(100);
    lab.firewall.set_tap_down(&nic.tap).unwrap();
    lab.open(machine);
    assert!(reader.frames() < 100, "nothing of it is left");
    fill(100);
    assert!(reader.frames() >= 100, "and it has as much room as before");
}
