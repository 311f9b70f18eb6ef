//! `agentvm version`: the versions of agentvm and of everything that it uses on this host.

use std::process::ExitCode;

use agentvm_controlplane::Binaries;
use serde::Serialize;

use super::args::{GlobalArgs, OutputFormat, VersionArgs};
use super::{Failure, print};
use agentvm_operator::config;
use agentvm_operator::doctor::observe::{self, parts, virt};
use agentvm_operator::guest_image;

/// One component with its version, or with the reason why the version is not known.
#[derive(Debug, Serialize)]
struct Component {
    /// A stable name, for programs.
    id: &'static str,
    name: &'static str,
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Runs the subcommand. A missing component is shown, and is not a failure.
pub fn run(args: &VersionArgs, global: &GlobalArgs) -> Result<ExitCode, Failure> {
    let settings = config::load(&args.settings.flags(global.config.as_deref()))?.settings;
    let mut components = vec![component("agentvm", "agentvm", Ok(own()))];
    components.extend(machines(&settings.libvirt.uri));
    components.extend(control_plane(args));
    components.extend(guest(args));
    print(&match args.output {
        OutputFormat::Text => table(&components),
        OutputFormat::Json => format!("{:#}\n", serde_json::json!({ "components": components })),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn own() -> String {
    format!("{} ({})", agentvm_operator::version::VERSION, agentvm_operator::version::COMMIT)
}

fn machines(uri: &str) -> [Component; 4] {
    let libvirt = virt::libvirt(uri);
    [
        component("qemu", "QEMU", virt::qemu().map(|qemu| qemu.version)),
        component("libvirt", "libvirt daemon", libvirt.daemon),
        component(
            "libvirtClient",
            "libvirt client",
            libvirt.client.ok_or_else(|| "there is no virsh".to_owned()),
        ),
        component("kernel", "Linux", Ok(observe::kernel())),
    ]
}

fn control_plane(args: &VersionArgs) -> [Component; 2] {
    let found = Binaries::find(args.places.control_plane_dir.as_deref());
    let missing = |error: &agentvm_controlplane::BinariesError| {
        error.to_string().lines().next().unwrap_or_default().to_owned()
    };
    let (api_server, etcd) = match &found {
        Ok(found) => (
            parts::version(&found.api_server, "Kubernetes v"),
            parts::version(&found.etcd, "etcd Version: "),
        ),
        Err(error) => (Err(missing(error)), Err(missing(error))),
    };
    [component("kubeApiserver", "kube-apiserver", api_server), component("etcd", "etcd", etcd)]
}

fn guest(args: &VersionArgs) -> [Component; 2] {
    let (image, agent) = match guest_image::find(args.places.image_dir.as_deref()) {
        Ok(image) => {
            let text = format!("{} {}", image.description.name, image.dir.display());
            (Ok(text), Ok(image.description.agent_version))
        }
        Err(error) => (Err(error.to_string()), Err("there is no guest image".to_owned())),
    };
    [component("guestImage", "guest image", image), component("guestAgent", "guest agent", agent)]
}

fn component(id: &'static str, name: &'static str, version: Result<String, String>) -> Component {
    match version {
        Ok(version) => Component { id, name, version: Some(version), problem: None },
        Err(problem) => Component { id, name, version: None, problem: Some(problem) },
    }
}

fn table(components: &[Component]) -> String {
    let width = components.iter().map(|component| component.name.len()).max().unwrap_or_default();
    let line = |component: &Component| {
        let problem = component.problem.as_deref().unwrap_or_default();
        let unknown = format!("not known: {problem}");
        format!("{:width$}  {}\n", component.name, component.version.as_deref().unwrap_or(&unknown))
    };
    components.iter().map(line).collect()
}
