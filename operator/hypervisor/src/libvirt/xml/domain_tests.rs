//! The XML to the letter, against libvirt's own schema, and with hostile names.

use super::*;
use crate::libvirt::xml::interface::{Filter, Socket};
use crate::libvirt::xml::metadata;
use agentvm_types::Nonce;
use proptest::prelude::*;

fn domain(memory: Memory, path: &str, owner: &str) -> DomainSpec {
    let record = metadata::tests::record(owner);
    let file = |name: &str| PathBuf::from(format!("{path}/{name}"));
    DomainSpec {
        name: record.name.clone(),
        nonce: record.nonce.clone(),
        kvm: false,
        emulator: PathBuf::from("/usr/bin/qemu-system-x86_64"),
        resources: Resources { vcpus: 2, memory_mib: 2048, disk_gib: 20, cpu_shares: 1024 },
        kernel: file("vmlinuz"),
        initrd: file("initrd.img"),
        cmdline: "console=ttyS0 panic=-1".to_owned(),
        overlay: file("overlay.qcow2"),
        share: file("share"),
        channel: file("agent.sock"),
        console: file("console.log"),
        memory,
        vsock: false,
        plug: None,
        user: QemuUser { uid: 64055, gid: 64055 },
        limits: MachineLimits {
            cpu_quota_percent: Some(150),
            disk_bytes_per_second: Some(100 << 20),
            processes: 0,
        },
        metadata: metadata::element(&record).unwrap(),
    }
}

fn plug(socket: Socket) -> Plug {
    let filter = Filter {
        name: "agent-network-filter".to_owned(),
        parameters: vec![("IP", "192.168.101.10".to_owned())],
    };
    let filter = matches!(socket, Socket::Bridge(_)).then_some(filter);
    Plug {
        tap: "avm0a1b-10".to_owned(),
        mac: agentvm_core::network::derive_mac(&["x"]),
        socket,
        filter,
    }
}

fn shared() -> Memory {
    Memory::Shared(PathBuf::from("/var/lib/agentvm/golden/.tmp-k/memory"))
}

fn private() -> Memory {
    private_at(PathBuf::from("/var/lib/agentvm/golden/k/memory"))
}

fn private_at(file: PathBuf) -> Memory {
    let preload = Preload {
        library: PathBuf::from("/var/lib/agentvm/preload/x.so"),
        socket: PathBuf::from("/m/reset/sock"),
    };
    Memory::Private { file, preload: Some(preload) }
}

/// On a wanted change: `AGENTVM_WRITE_EXPECTED=1 cargo test`, then read the diff.
fn is_expected(name: &str, xml: &str) {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/libvirt/xml/expected").join(name);
    if std::env::var_os("AGENTVM_WRITE_EXPECTED").is_some() {
        std::fs::write(&path, format!("{xml}\n")).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap().trim_end(), xml);
}

#[test]
fn it_is_written_as_expected() {
    is_expected("template.xml", &domain(shared(), "/var/lib/agentvm/x", "pool").to_xml().unwrap());
    let clone =
        DomainSpec { kvm: true, vsock: true, ..domain(private(), "/var/lib/agentvm/x", "pool") };
    is_expected("clone-kvm-vsock.xml", &clone.to_xml().unwrap());
    let plugged = DomainSpec {
        plug: Some(plug(Socket::Network("net".into()))),
        ..domain(private(), "/var/lib/agentvm/x", "pool")
    };
    is_expected("clone-nic.xml", &plugged.to_xml().unwrap());
}

#[test]
fn template_and_clone_have_the_same_devices() {
    let devices = |memory| {
        let xml = domain(memory, "/x", "pool").to_xml().unwrap();
        xml.split("<devices>").nth(1).unwrap().split("</devices>").next().unwrap().to_owned()
    };
    assert_eq!(devices(shared()), devices(private()));
}

#[test]
fn another_incarnation_is_another_machine_to_libvirt() {
    let one = domain(private(), "/x", "pool");
    let other = DomainSpec { nonce: Nonce::from_bytes([2; 16]), ..one.clone() };
    assert_ne!(one.uuid(), other.uuid());
}

#[test]
#[cfg_attr(
    not(feature = "host-tests"),
    ignore = "needs root and programs of the host: make test-host"
)]
fn libvirt_s_schema_accepts_it() {
    let dir = tempfile::tempdir().unwrap();
    for (memory, vsock, kvm) in
        [(shared(), false, false), (private(), true, true), (Memory::Own, false, false)]
    {
        let xml =
            DomainSpec { kvm, vsock, ..domain(memory, "/var/lib/a b/ü&<'\"", "own<er & \"co\"") }
                .to_xml()
                .unwrap();
        let xml = if kvm {
            xml
        } else {
            let plugged = plug(if vsock {
                Socket::Network("a <b>".into())
            } else {
                Socket::Bridge("br0".into())
            });
            DomainSpec { plug: Some(plugged), ..domain(shared(), "/x", "pool") }.to_xml().unwrap()
        };
        let file = dir.path().join("domain.xml");
        std::fs::write(&file, &xml).unwrap();
        let output = std::process::Command::new("virt-xml-validate")
            .arg(&file)
            .arg("domain")
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{xml}");
    }
}

/// Element names in their order: a hostile value must not change them.
fn shape(xml: &str) -> Vec<String> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut names = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            quick_xml::events::Event::Start(e) | quick_xml::events::Event::Empty(e) => {
                names.push(format!("{:?} {}", e.name(), e.attributes().count()));
            }
            quick_xml::events::Event::Eof => return names,
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn hostile_names_and_paths_stay_data(
        path in "(/|[^\\p{Cc}\u{fffe}\u{ffff}]){0,40}",
        owner in "([<>&'\",\\]{}-]|[^\\p{Cc}\u{fffe}\u{ffff}]){0,40}",
    ) {
        let memory = private_at(PathBuf::from(format!("{path}/memory")));
        let hostile = domain(memory, &path, &owner).to_xml().unwrap();
        prop_assert_eq!(shape(&hostile), shape(&domain(private(), "/x", "pool").to_xml().unwrap()));
        let read = metadata::parse(&hostile).unwrap();
        prop_assert_eq!(read.owner, owner);
    }

    #[test]
    fn a_comma_in_a_path_begins_no_property_of_qemu(path in "[a-z,=/]{1,30}") {
        let spec = domain(private_at(PathBuf::from(&path)), "/x", "pool");
        let xml = spec.to_xml().unwrap();
        let argument = xml.lines().find(|l| l.contains("memory-backend-file")).unwrap();
        let json = argument.split('"').nth(1).unwrap().replace("&quot;", "\"");
        let object: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(object["mem-path"].as_str(), Some(path.as_str()));
        prop_assert_eq!(object.as_object().unwrap().len(), 7);
    }
}
