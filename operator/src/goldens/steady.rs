//! Checks that a template does not change from one moment to the next. Each machine of a golden
//! must equal the capture, to the last process. A machine that changes by itself would go to
//! quarantine each time.

use agentvm_guest_agent::protocol::Inspection;

use super::CaptureError;
use crate::agent::matches_captured;

/// The number of looks before the template is given up: a process that the setup left may still be
/// about to end.
const LOOKS: u32 = 3;

/// Returns the state in which two looks in a row agree.
pub async fn steady<F: Future<Output = Result<Inspection, CaptureError>>>(
    first: Inspection,
    mut look: impl FnMut() -> F,
) -> Result<Inspection, CaptureError> {
    let (mut before, mut why) = (first, String::new());
    for _ in 0..LOOKS {
        let now = look().await?;
        match matches_captured(&before, &now) {
            Ok(()) => return Ok(now),
            Err(what) => (before, why) = (now, what),
        }
    }
    Err(CaptureError::Unsteady(why))
}

#[cfg(test)]
mod tests {
    use agentvm_guest_agent::{client::ClientError, protocol::Nonce};

    use super::*;

    fn seen(processes: &[&str]) -> Inspection {
        let processes = processes.iter().map(|name| (*name).to_owned()).collect();
        Inspection::new(Some(Nonce::from_bytes([7; 16])), processes, vec![])
    }

    #[tokio::test]
    async fn what_ends_is_waited_for_and_what_goes_on_changing_is_refused() {
        let ending = steady(seen(&["init<", "left<init"]), || async { Ok(seen(&["init<"])) }).await;
        assert_eq!(ending.unwrap(), seen(&["init<"]));
        let (mut looks, children) = (0, ["a<daemon", "b<daemon"]);
        let look = || {
            looks += 1;
            std::future::ready(Ok(seen(&["init<", "daemon<init", children[looks % 2]])))
        };
        let why = steady(seen(&["init<", "daemon<init", "a<daemon"]), look).await.unwrap_err();
        assert!(why.to_string().contains("a process too many: \"b<daemon\""), "{why}");
        assert_eq!((looks, why.reason()), (3, agentvm_crds::GoldenReason::SetupFailed));
        let broken = steady(seen(&[]), || async { Err(ClientError::Closed.into()) }).await;
        assert!(matches!(broken, Err(CaptureError::Session(_))));
    }
}
