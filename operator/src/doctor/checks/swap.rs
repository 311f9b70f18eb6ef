//! Check of swap: machines' memory may reach a disk.

use crate::doctor::finding::{Check, Finding};
use crate::doctor::observed::Host;

pub(super) fn swap(host: &Host) -> Finding {
    const CHECK: Check = Check {
        id: "swap",
        title: "Swap",
        why: "The memory of a machine, with the secrets of its runs, may be written to a disk and \
              read from there after the run.",
    };
    // Others could read memory from these later.
    let readable = host.swaps.iter().filter(|swap| !swap.in_memory && !swap.encrypted);
    let all: Vec<String> = readable.map(|swap| swap.path.display().to_string()).collect();
    if all.is_empty() {
        return CHECK.ok("no memory is written to a disk, or only encrypted");
    }
    CHECK.warning(
        format!("memory may be written to {}, without encryption", all.join(", ")),
        "Turn it off: swapoff -a, and take its lines out of /etc/fstab. Or encrypt it with a key \
         that the host forgets: the option `swap` in /etc/crypttab. Swap in compressed memory \
         (zram) is fine.",
    )
}
