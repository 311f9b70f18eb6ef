//! One capture: boot the template, run its setup, quiesce, write it down. The template is gone
//! after that, also when a step fails.

use std::time::Duration;

use agentvm_core::{
    golden::{DeviceLayout, Local, Recipe},
    names::DomainName,
};
use agentvm_crds::{GoldenReason, SetupNetworkMode};
use agentvm_guest_agent::{client::ClientError, protocol::Inspection};
use agentvm_hypervisor::{
    Accelerator, Golden, HvError, MachineKind, MachineLimits, MachineRecord, Stop, TemplateSpec,
};
use tokio::time::sleep;

use super::{
    Inner, Owner, Wanted,
    image::{ImageError, rootfs},
    setup::Setup,
    steady::steady,
};
use crate::{
    agent::{Session, SessionError, fresh_nonce, inspect, quiesce, reach, rehydrate},
    network::Attachment,
};

/// The time from power on to the agent's first answer. Emulation is an order of magnitude slower.
const BOOT_KVM: Duration = Duration::from_mins(1);
const BOOT_TCG: Duration = Duration::from_mins(4);

/// A guest that was made ready has this time to notice the end of the session.
const SETTLE: Duration = Duration::from_millis(100);

/// The pause between two looks at a guest that ran a setup. In that time its daemons show what they
/// do by themselves.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Why a capture failed.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("there is nothing to boot from")]
    Image(#[source] ImageError),
    #[error("the template could not be started")]
    Start(#[source] HvError),
    #[error("the agent in the template did not answer after the start")]
    Boot(#[source] SessionError),
    #[error("the agent in the template did not take its identity")]
    Identity(#[source] SessionError),
    #[error(
        "the template has no network for its setup; with `setup.network: {{mode: Isolated}}` it \
         needs none"
    )]
    Network(#[source] HvError),
    #[error("the session with the agent in the template broke")]
    Session(#[from] SessionError),
    #[error("spec.setup.steps[{index}]: {how}")]
    Setup { index: usize, how: String },
    #[error(
        "spec.setup leaves something running that changes by itself, so no machine could be proven \
         to be this golden: {0}; end it in the last step, or start it in the run"
    )]
    Unsteady(String),
    #[error("what the agent in the template sees could not be written down")]
    Inspection(#[source] serde_json::Error),
    #[error("the golden could not be written")]
    Write(#[source] HvError),
}

impl From<ClientError> for CaptureError {
    fn from(why: ClientError) -> Self {
        Self::Session(why.into())
    }
}

impl CaptureError {
    pub fn reason(&self) -> GoldenReason {
        match self {
            Self::Image(_) | Self::Start(HvError::BadImage { .. }) => GoldenReason::SourceMissing,
            Self::Start(HvError::Unavailable { .. }) | Self::Write(HvError::Unavailable { .. }) => {
                GoldenReason::HypervisorUnavailable
            }
            Self::Start(HvError::NoCapacity { .. }) | Self::Write(HvError::NoCapacity { .. }) => {
                GoldenReason::NoCapacity
            }
            Self::Network(_) | Self::Start(HvError::NetworkUnavailable { .. }) => {
                GoldenReason::NetworkUnavailable
            }
            Self::Boot(_) | Self::Identity(_) => GoldenReason::BootTimeout,
            Self::Setup { .. } | Self::Unsteady(_) => GoldenReason::SetupFailed,
            Self::Start(_) | Self::Session(_) | Self::Inspection(_) | Self::Write(_) => {
                GoldenReason::CaptureFailed
            }
        }
    }
}

/// The whole capture.
pub(super) async fn capture(
    inner: &Inner,
    owner: &Owner,
    wanted: &Wanted,
) -> Result<Golden, CaptureError> {
    let spec = template(inner, owner, wanted).await?;
    let name = spec.record.name.clone();
    let done = boot_and_write(inner, owner, wanted, &spec).await;
    if done.is_err() {
        // Its remains would be in the way of the next try.
        if let Err(why) = inner.hv.destroy(&name, Stop::Force).await {
            tracing::warn!(
                template = %name,
                error = &why as &dyn std::error::Error,
                "a template could not be removed"
            );
            return done;
        }
    }
    inner.network.free_address(&name);
    done
}

async fn template(
    inner: &Inner,
    owner: &Owner,
    wanted: &Wanted,
) -> Result<TemplateSpec, CaptureError> {
    let Wanted { recipe, key, layout } = wanted;
    inner.set(key, owner, Local::Capturing { doing: "checks its source".to_owned() });
    let (asked, folder) = (recipe.clone(), inner.config.images_folder.clone());
    let rootfs = tokio::task::spawn_blocking(move || rootfs(&asked, folder.as_deref()))
        .await
        .map_err(|why| CaptureError::Image(ImageError::Read(std::io::Error::other(why))))?
        .map_err(CaptureError::Image)?;
    let name = DomainName::for_template(&inner.config.instance, key);
    let attachment =
        if *layout == DeviceLayout::Nic { Attachment::Nat } else { Attachment::Isolated };
    let nic = inner.network.nic(&name, &attachment).await.map_err(CaptureError::Start)?;
    Ok(TemplateSpec {
        record: MachineRecord {
            name,
            instance: inner.config.instance.clone(),
            kind: MachineKind::Template,
            namespace: owner.namespace.clone(),
            owner: owner.name.clone(),
            owner_uid: owner.uid.clone(),
            slot: 0,
            golden: key.clone(),
            nonce: fresh_nonce()?,
            token: fresh_nonce()?.into(),
            created: inner.config.clock.now().as_second(),
            nic,
        },
        resources: recipe.size,
        image: inner.config.image.clone(),
        rootfs,
        limits: MachineLimits::default(),
    })
}

async fn boot_and_write(
    inner: &Inner,
    owner: &Owner,
    wanted: &Wanted,
    spec: &TemplateSpec,
) -> Result<Golden, CaptureError> {
    let Wanted { recipe, key, .. } = wanted;
    let say = |doing: String| inner.set(key, owner, Local::Capturing { doing });
    let name = &spec.record.name;
    say("boots".to_owned());
    let patience = match inner.hv.facts().await.map_err(CaptureError::Start)?.accelerator {
        Accelerator::Kvm => BOOT_KVM,
        Accelerator::Tcg { .. } => BOOT_TCG,
    };
    inner.hv.boot_template(spec).await.map_err(CaptureError::Start)?;
    let (mut session, _) = reach(&*inner.hv, name, None, &inner.config.clock, patience)
        .await
        .map_err(CaptureError::Boot)?;
    rehydrate(&mut session, &spec.record, None, false, inner.config.clock.now())
        .await
        .map_err(CaptureError::Identity)?;
    if !recipe.steps.is_empty() {
        set_up(inner, &mut session, recipe, &spec.record, say).await?;
    }
    say("is made ready for capture".to_owned());
    let mut inspection = quiesce(&mut session).await?;
    drop(session);
    if !recipe.steps.is_empty() {
        inspection = steady(inspection, || look_again(inner, name, patience)).await?;
    }
    // The guest has to notice that the channel is closed. It does so once here, or else in each
    // copy, while the host waits for the first answer of that copy.
    sleep(SETTLE).await;
    say("is written down".to_owned());
    let guest = serde_json::to_string(&inspection).map_err(CaptureError::Inspection)?;
    inner.hv.capture(name, &guest).await.map_err(CaptureError::Write)
}

/// Runs the setup with the network that it asks for. The network is gone when the setup is done.
async fn set_up(
    inner: &Inner,
    session: &mut Session,
    recipe: &Recipe,
    record: &MachineRecord,
    say: impl FnMut(String),
) -> Result<(), CaptureError> {
    let (network, owner, clock) = (&inner.network, &record.owner_uid, &inner.config.clock);
    let limit = inner.config.setup_limit;
    if record.nic.is_none() || recipe.setup_network == SetupNetworkMode::Isolated {
        let mut setup = Setup { session, record, network: None, clock, limit };
        return setup.run(&recipe.steps, say).await;
    }
    network
        .set_policy(owner, inner.config.setup_policy.clone())
        .await
        .map_err(CaptureError::Network)?;
    let guest_network = network.guest_network(record);
    rehydrate(session, record, guest_network.clone(), false, clock.now())
        .await
        .map_err(CaptureError::Identity)?;
    network.connect(record).await.map_err(CaptureError::Network)?;
    let mut setup = Setup { session, record, network: guest_network, clock, limit };
    let done = setup.run(&recipe.steps, say).await;
    let closed = network.disconnect(record).await.map_err(CaptureError::Network);
    if let Err(why) = network.drop_policy(owner).await {
        tracing::warn!(
            template = %record.name,
            error = &why as &dyn std::error::Error,
            "the policy of a setup could not be taken back"
        );
    }
    done.and(closed)
}

/// Asks the template the question that each copy will be asked.
async fn look_again(
    inner: &Inner,
    name: &DomainName,
    patience: Duration,
) -> Result<Inspection, CaptureError> {
    sleep(BETWEEN_LOOKS).await;
    let (_, hello) = inspect(&*inner.hv, name, &inner.config.clock, patience).await?;
    let missing = ClientError::Unexpected("a HELLO that does not say what it sees");
    Ok(hello.inspection.ok_or(missing)?)
}
