//! An error of libvirt, shown as its message without codes.

use virt::error::Error;

/// The cause of an [`crate::HvError::Failed`]. The numbers of libvirt's own text do not help a
/// person who has to repair a host.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message())]
pub struct LibvirtError(pub Error);
