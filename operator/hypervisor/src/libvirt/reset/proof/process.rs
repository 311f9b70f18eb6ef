//! Is it still the process that the machine was made in? That one alone was told to drop its pages.

use agentvm_types::report;

use crate::libvirt::qemu::process::Identity;

pub fn check(made_in: &Identity) -> Result<(), String> {
    let now = Identity::of(made_in.pid).map_err(|e| report(&e))?;
    difference(made_in, &now).map_or(Ok(()), Err)
}

/// The difference between two identities.
fn difference(then: &Identity, now: &Identity) -> Option<String> {
    match () {
        () if then == now => None,
        () if then.pid != now.pid => {
            Some(format!("it is process {} and was {}", now.pid, then.pid))
        }
        () if then.started != now.started => Some(format!("process {} is another one", now.pid)),
        () if then.command_line != now.command_line => {
            Some("its command line is another".to_owned())
        }
        () => Some(format!(
            "its program is {} and was {}",
            now.program.display(),
            then.program.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_and_no_other() {
        let me = Identity::of(std::process::id()).unwrap();
        assert_eq!(difference(&me, &Identity::of(std::process::id()).unwrap()), None);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let other = Identity::of(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(difference(&me, &other).unwrap().contains("and was"));
        let says = |change: fn(&mut Identity)| {
            let mut now = me.clone();
            change(&mut now);
            difference(&me, &now).unwrap()
        };
        assert!(says(|i| i.started += 1).contains("another one"));
        assert!(says(|i| i.command_line.clear()).contains("command line"));
        assert!(says(|i| i.program_file.1 += 1).contains("program"));
        assert!(Identity::of(u32::MAX).is_err());
    }

    #[test]
    fn another_process_is_another_whoever_says_so() {
        let me = Identity::of(std::process::id()).unwrap();
        assert_eq!(check(&me), Ok(()));
        let older = Identity { started: me.started + 1, ..me.clone() };
        assert!(check(&older).unwrap_err().contains("another"));
        assert!(check(&Identity { pid: u32::MAX, ..me }).is_err());
    }
}
