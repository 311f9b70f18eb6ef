//! Randomness of the host's kernel, for the guests' kernels and for names.

use agentvm_guest_agent::protocol::{Blob, Nonce};

use super::SessionError;

/// Random bytes of the host's kernel.
fn random<const N: usize>() -> Result<[u8; N], SessionError> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        let rest = bytes.get_mut(filled..).unwrap_or_default();
        match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(read) => filled += read,
            Err(rustix::io::Errno::INTR) => {}
            Err(why) => return Err(SessionError::Random(why.into())),
        }
    }
    Ok(bytes)
}

/// A nonce that was never used before.
pub fn fresh_nonce() -> Result<Nonce, SessionError> {
    Ok(Nonce::from_bytes(random()?))
}

/// Randomness for the kernel of a guest. All machines of a golden begin with the same.
pub fn entropy() -> Result<Blob, SessionError> {
    Ok(Blob(random::<64>()?.to_vec()))
}
