//! Root in a machine controls files and users. It does not reach the agent, the kernel and the
//! network's settings.

use agentvm_e2e::{Error, Host, ensure};

use crate::abuse::KILL_ALL;

pub async fn root_that_kills_all_it_can_reach_harms_itself_alone(host: &Host) -> Result<(), Error> {
    let run = host.script_as_root("Bash", KILL_ALL).await?;
    ensure!(run.reason() == "NonZeroExit" && run.status().exit_code == Some(6), "{run}");
    ensure!(run.stdout() == "still here\n", "{run}");
    Ok(())
}

/// Tries everything, and prints the attempts that worked.
const REACH: &str = r#"
import ctypes, glob, os, socket, subprocess
libc = ctypes.CDLL(None, use_errno=True)
worked = []

def attempt(what, action):
    try:
        if action() is not False: worked.append(what)
    except (OSError, subprocess.SubprocessError): pass

def syscall(*arguments):
    if libc.syscall(*arguments) == -1: raise OSError(ctypes.get_errno())

def write(path, text):
    with open(path, "w") as file: file.write(text)

def read_memory(pid):
    with open(f"/proc/{pid}/maps") as maps: start = int(maps.readline().split("-")[0], 16)
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(start)
        memory.read(16)

others = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
for pid in others:
    attempt(f"memory of {pid}", lambda: read_memory(pid))
    attempt(f"ptrace of {pid}", lambda: syscall(101, 16, pid, 0, 0))
    for fd in range(12): attempt(f"file {fd} of {pid}", lambda: os.close(os.open(f"/proc/{pid}/fd/{fd}", os.O_RDONLY)))
    attempt(f"root of {pid}", lambda: os.listdir(f"/proc/{pid}/root/"))
for pattern in ["/dev/vport*", "/dev/virtio-ports/*", "/dev/vd*", "/dev/mem", "/dev/kmsg", "/dev/vsock", "/dev/hvc*",
                "/dev/ttyS*", "/run/agentvm*", "/.agentvm*"]:
    for path in glob.glob(pattern): attempt(f"opening {path}", lambda: os.close(os.open(path, os.O_RDWR)))
for major in range(240, 256):
    attempt(f"a device node {major}", lambda: os.mknod(f"/tmp/node{major}", 0o020666, os.makedev(major, 1)))
attempt("a node of the disk", lambda: os.mknod("/tmp/disk", 0o060666, os.makedev(254, 0)))
attempt("mounting", lambda: subprocess.run(["mount", "-t", "tmpfs", "x", "/mnt"], check=True, stderr=subprocess.DEVNULL))
attempt("remounting the input", lambda: subprocess.run(["mount", "-o", "remount,bind,rw", "/workspace/input"], check=True, stderr=subprocess.DEVNULL))
attempt("leaving the pid namespace", lambda: syscall(308, os.open("/proc/1/ns/pid", os.O_RDONLY), 0))
# Namespaces of one's own are allowed; what was locked outside stays locked in them.
def inside(*command): subprocess.run(["unshare", "-Urm", "--pid", "--fork", *command], check=True, capture_output=True)
attempt("uncovering the kernel's switches", lambda: inside("umount", "/proc/sysrq-trigger"))
attempt("a /proc without covers", lambda: inside("mount", "-t", "proc", "proc", "/mnt"))
attempt("a writable input", lambda: inside("mount", "-o", "remount,bind,rw", "/workspace/input"))
attempt("a /dev of its own", lambda: inside("mount", "-t", "devtmpfs", "dev", "/mnt"))
def network(*command): subprocess.run(["ip", *command], check=True, stderr=subprocess.DEVNULL)
interface = ([name for name in os.listdir("/sys/class/net") if name != "lo"] or ["lo"])[0]
attempt("taking an interface down", lambda: network("link", "set", interface, "down"))
attempt("another MAC", lambda: network("link", "set", interface, "address", "02:00:00:00:00:09"))
attempt("another address", lambda: network("address", "add", "203.0.113.99/32", "dev", interface))
attempt("another route", lambda: network("route", "add", "198.51.100.0/24", "dev", interface))
attempt("another neighbour", lambda: network("neighbour", "add", "203.0.113.98", "lladdr", "02:00:00:00:00:01", "dev", interface))
attempt("an interface of its own", lambda: network("link", "add", "own", "type", "veth", "peer", "name", "other"))
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    attempt("a vsock", lambda: socket.socket(socket.AF_VSOCK, kind).close())
attempt("IPv6 on the interface", lambda: write(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6", "0"))
attempt("forwarding", lambda: write("/proc/sys/net/ipv4/ip_forward", "1"))
attempt("the interface, out of a namespace", lambda: inside("ip", "link", "set", interface, "down"))
attempt("a raw socket, out of a namespace", lambda: inside("python3", "-c", "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"))
attempt("rebooting", lambda: syscall(169, 0xfee1dead, 672274793, 0x1234567, 0))
attempt("loading a module", lambda: syscall(175, b"", 0, b""))
attempt("setting the clock", lambda: os.system("date -s 2001-01-01 >/dev/null 2>&1") == 0)
attempt("reading the kernel log", lambda: subprocess.run(["dmesg"], check=True, capture_output=True))
for path, text in [("/proc/sysrq-trigger", "c"), ("/proc/sys/kernel/panic", "1"), ("/proc/sys/kernel/core_pattern", "|/x"),
                   ("/sys/power/state", "mem"), ("/sys/fs/cgroup/pids.max", "max"), ("/sys/fs/cgroup/cgroup.procs", "1"),
                   ("/sys/kernel/uevent_helper", "/x"), ("/proc/self/oom_score_adj", "-1000")]:
    attempt(f"writing {path}", lambda: write(path, text))
print("worked:", worked)
raise SystemExit(8)
"#;

pub async fn root_reaches_nothing_of_the_agents(host: &Host) -> Result<(), Error> {
    let run = host.script_as_root("Python", REACH).await?;
    ensure!(run.status().exit_code == Some(8), "{run}");
    ensure!(run.stdout() == "worked: []\n", "{run}");
    Ok(())
}
