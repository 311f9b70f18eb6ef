//! Asks QEMU and libvirt through their own programs, which give the same answers with and without a
//! daemon. virtlogd is asked directly.

use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::command;
use crate::doctor::observed::{KvmBoot, Libvirt, LogDaemon, Qemu, Virt};
use crate::standalone::libvirtd::{SYSTEM_URI, VIRTLOGD_SOCKET};

pub(super) const QEMU: &str = "qemu-system-x86_64";

pub(super) fn virt(uri: &str, kvm_boot: KvmBoot) -> Virt {
    let libvirt = libvirt(uri);
    let log_daemon = match &libvirt.daemon {
        Ok(_) if uri == SYSTEM_URI => log_daemon(Path::new(VIRTLOGD_SOCKET)),
        _ => LogDaemon::Unasked,
    };
    Virt { qemu: qemu(), libvirt, log_daemon, kvm_boot }
}

/// The QEMU on the PATH and the devices that it knows.
pub fn qemu() -> Result<Qemu, String> {
    let version = command::output(QEMU, &["--version"])?;
    let devices = command::output(QEMU, &["-device", "help"])?;
    let knows = |device: &str| devices.contains(&format!("name \"{device}\""));
    Ok(Qemu {
        version: qemu_version(&version).to_owned(),
        has_9p: knows("virtio-9p-pci"),
        has_vsock: knows("vhost-vsock-pci"),
    })
}

/// The libvirt at a URI, and the programs that could start one.
pub fn libvirt(uri: &str) -> Libvirt {
    let asked = command::output("virsh", &["--connect", uri, "version", "--daemon"]);
    let daemon = asked.and_then(|text| {
        let version = after(&text, "Running against daemon: ")
            .or_else(|| after(&text, "Using library: libvirt "));
        version.map(str::to_owned).ok_or_else(|| "virsh prints no version".to_owned())
    });
    let client = command::output("virsh", &["--version"]).ok().map(|text| text.trim().to_owned());
    Libvirt {
        uri: uri.to_owned(),
        daemon,
        client,
        libvirtd: command::find("libvirtd"),
        virtlogd: command::find("virtlogd"),
    }
}

/// Only a connection tells whether virtlogd answers: the socket file of a killed daemon refuses,
/// and where systemd holds the socket, the connection starts the daemon.
fn log_daemon(socket: &Path) -> LogDaemon {
    let connected = SocketAddrUnix::new(socket).and_then(|address| {
        // Non-blocking, because a daemon that hangs would make us wait for a place in its queue.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        connect(&socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?, &address)
    });
    match connected {
        Ok(()) => LogDaemon::Answers,
        Err(Errno::ACCESS) => LogDaemon::Refused,
        Err(why) => LogDaemon::Silent(format!("{}: {why}", socket.display())),
    }
}

fn qemu_version(text: &str) -> &str {
    after(text, "QEMU emulator version ").unwrap_or("unknown").split(' ').next().unwrap_or_default()
}

fn after<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(prefix)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn versions_are_read_from_what_the_programs_print() {
        assert_eq!(
            qemu_version("QEMU emulator version 10.0.2 (Debian 1:10.0.2)\nCopyright\n"),
            "10.0.2"
        );
        assert_eq!(qemu_version("something else"), "unknown");
        let virsh = "Compiled against library: libvirt 11.3.0\nRunning against daemon: 11.3.0\n";
        assert_eq!(after(virsh, "Running against daemon: "), Some("11.3.0"));
    }

    #[test]
    fn the_file_of_a_log_daemon_that_was_killed_is_not_one_that_answers() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("virtlogd-sock");
        let silent = |said: &str| match log_daemon(&socket) {
            LogDaemon::Silent(why) => why.contains(said),
            _ => false,
        };
        assert!(silent("No such file"));
        let daemon = UnixListener::bind(&socket).unwrap();
        assert_eq!(log_daemon(&socket), LogDaemon::Answers);
        drop(daemon);
        assert!(socket.exists() && silent("refused"));
    }

    #[test]
    fn a_libvirt_that_is_not_there_is_an_error_in_words() {
        let seen = libvirt("qemu+unix:///system?socket=/nonexistent/socket");
        assert!(seen.daemon.is_err_and(|why| !why.is_empty()));
    }
}
