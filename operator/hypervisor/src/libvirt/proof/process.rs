//! Is it still the process that the machine was made in, and is it the one that dropped the pages?

use crate::libvirt::process::Identity;

pub fn check(made_in: &Identity, listener: u32) -> Result<(), String> {
    let now = Identity::of(made_in.pid).map_err(|e| super::told(&e))?;
    if let Some(difference) = made_in.difference(&now) {
        return Err(difference);
    }
    if listener == made_in.pid {
        return Ok(());
    }
    Err(format!("the library's socket is process {listener}'s, the machine's is {}", made_in.pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_is_another_whoever_says_so() {
        let me = Identity::of(std::process::id()).unwrap();
        assert_eq!(check(&me, me.pid), Ok(()));
        assert!(check(&me, 1).unwrap_err().contains("process 1"));
        let older = Identity { started: me.started + 1, ..me.clone() };
        assert!(check(&older, me.pid).unwrap_err().contains("another"));
        assert!(check(&Identity { pid: u32::MAX, ..me }, 1).is_err());
    }
}
