//! The settings of the libvirt side, with their defaults.

use std::path::PathBuf;
use std::time::Duration;

use agentvm_core::names::InstanceId;

use super::lanes::BUILD_WORKERS;
use crate::StepHook;
use crate::libvirt::qemu::preload::find_preload;
use crate::libvirt::qemu::users::uids;
use crate::sabotage::Sabotage;

/// Whether machines' interfaces have filters of libvirt's, beside our own rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LibvirtFilter {
    #[default]
    Disabled,
    Enabled,
}

/// The libvirt to use, the place of the files, the deadlines.
#[derive(Clone, Debug)]
pub struct LibvirtConfig {
    pub uri: String,
    /// Goldens, overlays and shares. QEMU's user must be able to walk to it.
    pub state_dir: PathBuf,
    /// Tells our domains from those of another installation on this libvirt.
    pub instance: InstanceId,
    /// The default guest image. Its kernel probes KVM. Without an image KVM is not used, because
    /// nothing has shown that it works.
    pub image: Option<PathBuf>,
    pub emulator: PathBuf,
    pub connect_timeout: Duration,
    pub start_timeout: Duration,
    /// Between power button and force.
    pub stop_timeout: Duration,
    pub capture_timeout: Duration,
    /// The deadline of all small calls.
    pub call_timeout: Duration,
    /// The time that a machine's QEMU has for an answer. After it, QEMU is killed.
    pub monitor_timeout: Duration,
    /// Threads that create, capture and destroy. Claims have their own.
    pub workers: usize,
    /// The library that QEMU is started with so that machines can be reset in place.
    pub preload: Option<PathBuf>,
    /// The first number of the machines' own users. Without it, all machines run as QEMU's user.
    pub first_uid: Option<u32>,
    /// The filter of machines that start from now on.
    pub filter: LibvirtFilter,
    /// Called before each step of capture, creation and reset. For tests.
    pub on_step: StepHook,
    /// The sabotage of resets, for tests of the proof.
    #[doc(hidden)]
    pub sabotage: Sabotage,
}

impl LibvirtConfig {
    /// The first number of the machines' users by default.
    pub const FIRST_UID: u32 = uids::FIRST_UID;
    /// The number of the machines' users.
    pub const UIDS: u32 = uids::UIDS;

    /// The owner of one of those numbers, by the tables of users and of subordinate users.
    pub fn uids_taken_by(first: u32, passwd: &str, subordinate: &[&str]) -> Option<String> {
        uids::taken_by(first, passwd, subordinate)
    }

    pub fn new(state_dir: impl Into<PathBuf>, instance: InstanceId) -> Self {
        Self {
            uri: "qemu:///system".to_owned(),
            state_dir: state_dir.into(),
            instance,
            image: None,
            emulator: PathBuf::from("/usr/bin/qemu-system-x86_64"),
            connect_timeout: Duration::from_secs(30),
            start_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(10),
            capture_timeout: Duration::from_mins(3),
            call_timeout: Duration::from_secs(10),
            monitor_timeout: Duration::from_secs(20),
            workers: BUILD_WORKERS,
            preload: find_preload(),
            first_uid: Some(Self::FIRST_UID),
            filter: LibvirtFilter::default(),
            on_step: StepHook::default(),
            sabotage: Sabotage::None,
        }
    }
}
