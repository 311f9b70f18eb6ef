//! Checks of processors, memory and the kernel's devices for them: KVM and vsock.

use crate::doctor::finding::{Check, Finding};
use crate::doctor::observed::{Device, Devices, Host, KvmBoot, User, Virt};

/// With less memory no machine fits beside the host and a control plane.
const MEMORY_LEAST_MIB: u64 = 1024;
/// With less memory two machines of the default profile don't fit.
const MEMORY_GOOD_MIB: u64 = 6 * 1024;

pub(super) fn cpu(host: &Host) -> Finding {
    const CHECK: Check = Check {
        id: "cpu",
        title: "CPU",
        why: "Without the CPU's virtualisation machines run by software emulation, which is \
              correct, but an order of magnitude slower.",
    };
    let found = format!("{} × {}", host.cpus, host.cpu_model);
    match host.virtualisation {
        Some(flag) if host.cpus > 1 => CHECK.ok(format!("{found} ({flag})")),
        Some(flag) => CHECK.warning(
            format!("{found} ({flag})"),
            "The host, the control plane and all machines share one CPU. One CPU is too little: \
             give the host two or more.",
        ),
        None => CHECK.warning(
            format!("{found}, with neither vmx nor svm"),
            "Enable Intel VT-x or AMD-V (SVM) in the firmware. If this host is a virtual machine, \
             enable nested virtualisation in the hypervisor that runs it.",
        ),
    }
}

pub(super) fn memory(host: &Host) -> Finding {
    const CHECK: Check = Check {
        id: "memory",
        title: "Memory",
        why: "A machine takes 1 to 4 GiB, depending on its profile, less the memory that it shares \
              with its golden. The control plane takes 0.5 GiB.",
    };
    let found = format!("{} MiB, {} MiB available", host.memory_mib, host.available_mib);
    if host.available_mib < MEMORY_LEAST_MIB {
        return CHECK.error(
            found,
            format!("Free memory or add some: at least {MEMORY_LEAST_MIB} MiB must be available."),
        );
    }
    if host.available_mib < MEMORY_GOOD_MIB {
        return CHECK.warning(
            found,
            "Use small pools and the profile light (vm.default_profile: light), or add memory.",
        );
    }
    CHECK.ok(found)
}

pub(super) fn kvm_device(devices: &Devices, host: &Host, user: &User) -> Finding {
    const CHECK: Check = Check {
        id: "kvm-device",
        title: "KVM device",
        why: "QEMU reaches the CPU's virtualisation through /dev/kvm. Without it machines run by \
              software emulation, an order of magnitude slower.",
    };
    match &devices.kvm {
        Device::Usable => CHECK.ok("/dev/kvm opens"),
        Device::Refused(why) if !user.root => CHECK.warning(
            format!("/dev/kvm doesn't open for {}: {why}", user.name),
            format!("sudo usermod -aG kvm {}    (then log in again)", user.name),
        ),
        Device::Refused(why) => CHECK.warning(
            format!("/dev/kvm doesn't open: {why}"),
            "In a container: pass the device in (--device /dev/kvm). Otherwise look into `dmesg | \
             grep -i kvm`.",
        ),
        Device::Absent if host.virtualisation.is_some() => CHECK.warning(
            "there is no /dev/kvm, but the CPU supports virtualisation",
            "Load the module: `modprobe kvm_intel` or `modprobe kvm_amd`. In a container: pass the \
             device in (--device /dev/kvm).",
        ),
        Device::Absent => CHECK.warning("there is no /dev/kvm", "See the finding on the CPU."),
    }
}

pub(super) fn kvm_boot(virt: &Virt) -> Finding {
    const CHECK: Check = Check {
        id: "kvm-boot",
        title: "KVM boots",
        why: "On some hosts /dev/kvm opens, but no ordinary kernel boots; only a boot proves KVM. \
              On such a host machines run by software emulation.",
    };
    match &virt.kvm_boot {
        KvmBoot::Booted => CHECK.ok("a kernel has booted with KVM"),
        KvmBoot::Failed(why) => CHECK.warning(
            why.lines().collect::<Vec<_>>().join("; "),
            "Until then machines run by software emulation. If this host is a virtual machine, its \
             hypervisor's nested virtualisation is incomplete: use another host, or a physical \
             one. An operator keeps its verdict until QEMU, kernel, CPU or guest kernel change.",
        ),
        KvmBoot::Untried(why) => CHECK.info(format!("not tried: {why}"), ""),
    }
}

pub(super) fn modules(host: &Host, devices: &Devices) -> Finding {
    const CHECK: Check = Check {
        id: "kernel-modules",
        title: "Kernel modules",
        why: "kvm runs machines, vhost_vsock carries the control channel, loop carries each \
              machine's share.",
    };
    let there = |module: &str| host.modules.iter().any(|loaded| loaded == module);
    let wanted = [
        ("kvm", there("kvm") || devices.kvm != Device::Absent),
        ("vhost_vsock", there("vhost_vsock") || devices.vhost_vsock != Device::Absent),
        ("loop", there("loop") || devices.loop_control != Device::Absent),
    ];
    let missing: Vec<&str> =
        wanted.iter().filter(|(_, there)| !there).map(|(module, _)| *module).collect();
    let found = format!("Linux {}", host.kernel);
    if missing.is_empty() {
        return CHECK.ok(format!("{found}: kvm, vhost_vsock, loop"));
    }
    CHECK.info(
        format!("{found}; not loaded: {}", missing.join(", ")),
        format!(
            "modprobe {}    (a module that can't be loaded has a finding of its own)",
            missing.join(" ; modprobe ")
        ),
    )
}

pub(super) fn vsock(devices: &Devices, virt: &Virt) -> Finding {
    const CHECK: Check = Check {
        id: "vsock",
        title: "vsock",
        why: "The control channel to the guest agent runs over vsock. On a host without vsock it \
              runs over a virtio-serial port, with the same bytes.",
    };
    let knows = virt.qemu.as_ref().is_ok_and(|qemu| qemu.has_vsock);
    match &devices.vhost_vsock {
        Device::Usable if knows => CHECK.ok("/dev/vhost-vsock opens"),
        Device::Usable => CHECK.info(
            "/dev/vhost-vsock opens, but this QEMU has no vhost-vsock-pci; virtio-serial is used",
            "",
        ),
        Device::Refused(why) => {
            CHECK.info(format!("/dev/vhost-vsock doesn't open ({why}); virtio-serial is used"), "")
        }
        Device::Absent => CHECK.info("there is no /dev/vhost-vsock; virtio-serial is used", ""),
    }
}
