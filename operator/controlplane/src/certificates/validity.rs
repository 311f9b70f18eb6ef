//! The lifetime of certificates. Each file starts with a line that has its expiry, so that this
//! code need not parse X.509. PEM readers skip text before the first block (RFC 7468, "explanatory
//! text").

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::CertificateParams;

const DAY: Duration = Duration::from_hours(24);
/// Raised when the content of certificates changes, so that older ones are replaced.
const ISSUE: u32 = 1;
const MARK: &str = "agentvm-certificate";

/// The lifetime of a certificate, and the time before its end when it is replaced.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    pub valid: Duration,
    pub renew_before: Duration,
}

/// Certificates are renewed only at a start, and a control plane may run for long. Hence years, not
/// months.
pub const IDENTITY: Term =
    Term { valid: DAY.saturating_mul(3 * 365), renew_before: DAY.saturating_mul(2 * 365) };
/// Longer than the life of every certificate that the authority signs.
pub const AUTHORITY: Term =
    Term { valid: DAY.saturating_mul(20 * 365), renew_before: DAY.saturating_mul(5 * 365) };

/// Sets the term that starts now, and returns the first line of the file.
pub fn stamp(params: &mut CertificateParams, term: Term, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // Begins a day earlier, so that the certificate stays valid if the host's clock is set back
    // after the start.
    params.not_before = epoch + now.saturating_sub(DAY);
    params.not_after = epoch + (now + term.valid);
    format!("{MARK} issue={ISSUE} expires={}\n", (now + term.valid).as_secs())
}

/// Whether the file is still valid, by its first line.
pub fn is_fresh(file: &str, term: Term, now: SystemTime) -> bool {
    let prefix = format!("{MARK} issue={ISSUE} expires=");
    let expires = file.lines().next().and_then(|line| line.strip_prefix(&prefix)?.parse().ok());
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    expires.is_some_and(|expires| now + term.renew_before < Duration::from_secs(expires))
}
