//! Finds out whether KVM boots a kernel on this host. Boots the guest image's kernel, like the
//! operator at its start.

use agentvm_hypervisor::libvirt::boots_with_kvm;

use super::{command, virt};
use crate::doctor::observed::{Device, KvmBoot};
use crate::guest_image::GuestImage;

pub(super) fn boot(device: &Device, image: Option<&GuestImage>) -> KvmBoot {
    if *device != Device::Usable {
        return KvmBoot::Untried("/dev/kvm isn't usable".to_owned());
    }
    let Some(image) = image else {
        return KvmBoot::Untried("there is no guest image whose kernel could be booted".to_owned());
    };
    let Some(emulator) = command::find(virt::QEMU) else {
        return KvmBoot::Untried("there is no QEMU".to_owned());
    };
    match boots_with_kvm(&emulator, &image.kernel()) {
        Ok(()) => KvmBoot::Booted,
        Err(why) => KvmBoot::Failed(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_tried_is_not_judged() {
        assert!(
            matches!(boot(&Device::Absent, None), KvmBoot::Untried(why) if why.contains("/dev/kvm"))
        );
        assert!(
            matches!(boot(&Device::Usable, None), KvmBoot::Untried(why) if why.contains("image"))
        );
    }
}
