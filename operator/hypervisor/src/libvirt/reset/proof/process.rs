//! Is it still the process that the machine was made in? That one alone was told to drop its pages.

use agentvm_types::report;

use crate::libvirt::qemu::process::Identity;

pub fn check(made_in: &Identity) -> Result<(), String> {
    let now = Identity::of(made_in.pid).map_err(|e| report(&e))?;
    made_in.difference(&now).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_is_another_whoever_says_so() {
        let me = Identity::of(std::process::id()).unwrap();
        assert_eq!(check(&me), Ok(()));
        let older = Identity { started: me.started + 1, ..me.clone() };
        assert!(check(&older).unwrap_err().contains("another"));
        assert!(check(&Identity { pid: u32::MAX, ..me }).is_err());
    }
}
