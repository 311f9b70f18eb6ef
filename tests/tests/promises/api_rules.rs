//! Admission refuses every mistake that a schema or a CEL rule can see, and names the field.

use agentvm_tests::Bench;
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use serde_json::{Value, json};

/// A mistake: the spec, the path that a line of the refusal must begin with, and words of the
/// reason.
type Mistake<'a> = (Value, &'a str, &'a str);

/// Creates an object of any shape, as a dry run.
async fn try_create(bench: &Bench, kind: &str, plural: &str, spec: &Value) -> Result<(), String> {
    let resource = ApiResource {
        group: "agentvm.dev".into(),
        version: "v1alpha1".into(),
        api_version: "agentvm.dev/v1alpha1".into(),
        kind: kind.into(),
        plural: plural.into(),
    };
    let api =
        Api::<DynamicObject>::namespaced_with(bench.client.clone(), &bench.namespace, &resource);
    let object = DynamicObject::new("tried", &resource).data(json!({ "spec": spec }));
    match api.create(&PostParams { dry_run: true, ..PostParams::default() }, &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(refusal)) if refusal.code == 422 => Err(refusal.message),
        Err(other) => panic!("neither accepted nor refused: {other:?}"),
    }
}

async fn assert_refused(kind: &str, plural: &str, mistakes: Vec<Mistake<'_>>) {
    let bench = Bench::new().await.unwrap();
    for (spec, path, words) in mistakes {
        let Err(refusal) = try_create(&bench, kind, plural, &spec).await else {
            panic!("accepted: {spec}")
        };
        assert!(
            refusal.contains(&format!("{path}: ")),
            "{spec}: the refusal doesn't name {path}: {refusal}"
        );
        assert!(refusal.contains(words), "{spec}: the refusal doesn't say \"{words}\": {refusal}");
    }
}

async fn assert_accepted(kind: &str, plural: &str, specs: Vec<Value>) {
    let bench = Bench::new().await.unwrap();
    for spec in specs {
        let outcome = try_create(&bench, kind, plural, &spec).await;
        assert!(outcome.is_ok(), "{spec}: {outcome:?}");
    }
}

/// The spec of a correct run, changed by `more`. Null removes a field.
fn run(more: Value) -> Value {
    with(json!({"command": ["true"]}), more)
}

fn with(base: Value, more: Value) -> Value {
    let (Value::Object(mut base), Value::Object(more)) = (base, more) else {
        panic!("two objects, please")
    };
    for (key, value) in more {
        if value.is_null() {
            base.remove(&key)
        } else {
            base.insert(key, value)
        };
    }
    Value::Object(base)
}

/// The spec of a run with one file.
fn file(file: Value) -> Value {
    run(json!({"files": [with(json!({"path": "a", "content": ""}), file)]}))
}

fn beside_code(language: &str, path: &str) -> Value {
    let code = json!({"language": language, "source": "1"});
    with(file(json!({"path": path})), json!({"command": null, "code": code}))
}

fn env(variables: &Value) -> Value {
    run(json!({ "env": variables }))
}

#[tokio::test]
async fn a_run_that_names_no_program_or_two() {
    let python = json!({"language": "Python", "source": "1"});
    assert_refused(
        "AgentRun",
        "agentruns",
        vec![
            (run(json!({"code": python})), "spec", "exactly one of code and command"),
            (run(json!({"command": null})), "spec", "exactly one of code and command"),
            (
                json!({"code": {"language": "Cobol", "source": "1"}}),
                "spec.code.language",
                "supported values: \"Python\", \"Bash\", \"JavaScript\"",
            ),
            (json!({"code": {"language": "Python"}}), "spec.code.source", "Required value"),
            (
                json!({"code": {"language": "Python", "source": ""}}),
                "spec.code.source",
                "at least 1 char",
            ),
            (
                json!({"code": {"language": "Bash", "source": "a\0b"}}),
                "spec.code.source",
                "should match",
            ),
            (run(json!({"command": []})), "spec.command", "at least 1 item"),
            (run(json!({"command": [""]})), "spec.command", "must not be empty"),
            (run(json!({"command": ["printf", "a\0b"]})), "spec.command[1]", "should match"),
            (run(json!({"command": "ls -l"})), "spec.command", "must be of type array"),
            (
                run(json!({"runAs": "Nobody"})),
                "spec.runAs",
                "supported values: \"Agent\", \"Root\"",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_run_with_a_number_out_of_range() {
    assert_refused(
        "AgentRun",
        "agentruns",
        vec![
            (
                run(json!({"timeoutSeconds": 0})),
                "spec.timeoutSeconds",
                "greater than or equal to 1",
            ),
            (
                run(json!({"timeoutSeconds": -5})),
                "spec.timeoutSeconds",
                "greater than or equal to 1",
            ),
            (
                run(json!({"timeoutSeconds": 604_801})),
                "spec.timeoutSeconds",
                "less than or equal to 604800",
            ),
            (
                run(json!({"timeoutSeconds": "5m"})),
                "spec.timeoutSeconds",
                "must be of type integer",
            ),
            (
                run(json!({"queueTimeoutSeconds": -1})),
                "spec.queueTimeoutSeconds",
                "greater than or equal to 1",
            ),
            (run(json!({"backoffLimit": -1})), "spec.backoffLimit", "greater than or equal to 0"),
            (run(json!({"backoffLimit": 11})), "spec.backoffLimit", "less than or equal to 10"),
            (run(json!({"priority": 1001})), "spec.priority", "less than or equal to 1000"),
            (
                run(json!({"ttlSecondsAfterFinished": -1})),
                "spec.ttlSecondsAfterFinished",
                "greater than or equal to 0",
            ),
            (
                run(json!({"output": {"maxBytes": -1}})),
                "spec.output.maxBytes",
                "greater than or equal to 1",
            ),
            (
                run(json!({"output": {"include": ["/etc/**"]}})),
                "spec.output.include[0]",
                "should match",
            ),
            (
                run(json!({"desiredState": "Paused"})),
                "spec.desiredState",
                "supported values: \"Running\", \"Cancelled\"",
            ),
            (run(json!({"poolRef": {}})), "spec.poolRef.name", "Required value"),
            (run(json!({"poolRef": {"name": "No Pool"}})), "spec.poolRef.name", "should match"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_run_with_a_path_that_leads_elsewhere() {
    let astray = ["/etc/passwd", "../a", "a/../b", "a/..", "..", ".", "./a", "a//b", "a/", "/"];
    let mut mistakes: Vec<Mistake> = astray
        .iter()
        .map(|path| (file(json!({"path": path})), "spec.files[0].path", "must be relative"))
        .collect();
    let control = ["a\0b", "a\nb", "\u{7f}"];
    mistakes.extend(
        control.iter().map(|path| {
            (file(json!({"path": path})), "spec.files[0].path", "must not contain NUL")
        }),
    );
    let taken = [("Python", "main.py"), ("Bash", "main.sh/x"), ("JavaScript", "main.js")];
    mistakes.extend(taken.into_iter().map(|(language, path)| {
        (beside_code(language, path), "spec.files", "give the other one another name") as Mistake
    }));
    mistakes.push((file(json!({"path": ""})), "spec.files[0].path", "at least 1 char"));
    mistakes.push((
        file(json!({"path": "a".repeat(1025)})),
        "spec.files[0].path",
        "may not be more than 1024",
    ));
    assert_refused("AgentRun", "agentruns", mistakes).await;
}

#[tokio::test]
async fn a_run_with_files_that_cannot_be_made() {
    let secret = json!({"secretKeyRef": {"name": "a", "key": "b"}});
    assert_refused(
        "AgentRun",
        "agentruns",
        vec![
            (
                file(json!({"content": null})),
                "spec.files[0]",
                "exactly one of content, contentBase64, contentFrom",
            ),
            (
                file(json!({"contentBase64": "AA=="})),
                "spec.files[0]",
                "exactly one of content, contentBase64, contentFrom",
            ),
            (
                file(json!({"content": null, "contentBase64": "%%"})),
                "spec.files[0].contentBase64",
                "should match",
            ),
            (
                file(json!({"content": null, "contentFrom": {}})),
                "spec.files[0].contentFrom",
                "exactly one of secretKeyRef",
            ),
            (
                file(json!({"content": null, "contentFrom": secret})),
                "spec.files[0].place",
                "needs place: Secrets",
            ),
            (
                file(json!({"content": null, "contentFrom": secret, "place": "Input"})),
                "spec.files[0].place",
                "needs place: Secrets",
            ),
            (file(json!({"mode": -1})), "spec.files[0].mode", "from 0 to 0777"),
            (file(json!({"mode": 755})), "spec.files[0].mode", "write 0755 with its leading zero"),
            (
                file(json!({"place": "Output"})),
                "spec.files[0].place",
                "supported values: \"Input\", \"Secrets\"",
            ),
            (
                run(json!({"files": [{"path": "a", "content": "1"}, {"path": "a",
                    "content": "2"}]})),
                "spec.files[1]",
                "Duplicate value: {\"path\":\"a\",\"place\":\"Input\"}",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_run_with_an_environment_that_is_none() {
    let names = ["A=B", "=", "Ä", "A\tB", "A\0"];
    let mut mistakes: Vec<Mistake> = names
        .iter()
        .map(|name| (env(&json!([{"name": name}])), "spec.env[0].name", "printable ASCII"))
        .collect();
    let both = json!({"secretKeyRef": {"name": "a", "key": "b"}, "configMapKeyRef": {"name": "a",
        "key": "b"}});
    mistakes.extend([
        (env(&json!([{"name": ""}])), "spec.env[0].name", "at least 1 char"),
        (env(&json!([{"name": "A", "value": "a\0"}])), "spec.env[0].value", "should match"),
        (
            env(&json!([{"name": "A"}, {"name": "B"}, {"name": "A"}])),
            "spec.env[2]",
            "Duplicate value: {\"name\":\"A\"}",
        ),
        (
            env(&json!([{"name": "A", "valueFrom": {}}])),
            "spec.env[0].valueFrom",
            "exactly one of secretKeyRef",
        ),
        (
            env(&json!([{"name": "A", "valueFrom": both}])),
            "spec.env[0].valueFrom",
            "exactly one of secretKeyRef",
        ),
        (
            env(&json!([{"name": "A", "value": "", "valueFrom": {"secretKeyRef": {"name": "a",
                "key": "b"}}}])),
            "spec.env[0]",
            "at most one of value and valueFrom",
        ),
        (
            env(&json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "a",
                "key": "no/key"}}}])),
            "spec.env[0].valueFrom.secretKeyRef.key",
            "should match",
        ),
    ]);
    assert_refused("AgentRun", "agentruns", mistakes).await;
}

#[tokio::test]
async fn a_run_that_is_too_large() {
    let half = "x".repeat(300 * 1024);
    let files: Vec<_> = (0..257).map(|n| json!({"path": format!("f{n}"), "content": ""})).collect();
    assert_refused(
        "AgentRun",
        "agentruns",
        vec![
            (
                run(json!({"stdin": half, "files": [{"path": "a", "content": half}]})),
                "spec",
                "larger than 512 KiB",
            ),
            (run(json!({"stdin": "x".repeat(524_289)})), "spec.stdin", "524288"),
            (run(json!({"files": files})), "spec.files", "at most 256 items"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_golden_snapshot_that_cannot_be_captured() {
    let digest = "0".repeat(64);
    let rootfs =
        |path: &str, sha256: &str| json!({"source": {"rootfs": {"path": path, "sha256": sha256}}});
    let sized = |resources: Value| json!({"source": {"builtin": "Debian"}, "resources": resources});
    let numbers = json!({"vcpus": 1, "memoryMiB": 512, "diskGiB": 5});
    let setup = |steps: Value| json!({"source": {"builtin": "Debian"}, "setup": {"steps": steps}});
    assert_refused(
        "GoldenSnapshot",
        "goldensnapshots",
        vec![
            (json!({"source": {}}), "spec.source", "exactly one of builtin and rootfs"),
            (
                json!({"source": {"builtin": "Debian", "rootfs": {"path": "a", "sha256": digest}}}),
                "spec.source",
                "exactly one of builtin and rootfs",
            ),
            (
                json!({"source": {"builtin": "Plan9"}}),
                "spec.source.builtin",
                "supported values: \"Debian\"",
            ),
            (rootfs("/etc/shadow", &digest), "spec.source.rootfs.path", "must be relative"),
            (rootfs("../a.raw", &digest), "spec.source.rootfs.path", "must be relative"),
            (rootfs("a\0.raw", &digest), "spec.source.rootfs.path", "must not contain NUL"),
            (rootfs("a.raw", "abc"), "spec.source.rootfs.sha256", "64 lower-case hexadecimal"),
            (
                rootfs("a.raw", &"A".repeat(64)),
                "spec.source.rootfs.sha256",
                "64 lower-case hexadecimal",
            ),
            (
                sized(json!({"profile": "Huge"})),
                "spec.resources.profile",
                "supported values: \"Light\"",
            ),
            (sized(json!({"profile": "Custom"})), "spec.resources.custom", "needs its numbers"),
            (
                sized(json!({"profile": "Light", "custom": numbers})),
                "spec.resources.profile",
                "set profile to Custom",
            ),
            (sized(json!({"custom": numbers})), "spec.resources.profile", "set profile to Custom"),
            (
                sized(json!({"profile": "Custom", "custom": with(numbers.clone(),
                    json!({"vcpus": -1}))})),
                "spec.resources.custom.vcpus",
                "greater than or equal to 1",
            ),
            (setup(json!([])), "spec.setup.steps", "at least 1 item"),
            (setup(json!([{"command": []}])), "spec.setup.steps[0].command", "at least 1 item"),
            (
                setup(json!([{"command": ["true"], "timeoutSeconds": 0}])),
                "spec.setup.steps[0].timeoutSeconds",
                "greater than",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_pool_that_cannot_be_filled() {
    let pool = |more: Value| with(json!({"goldenSnapshotRef": {"name": "debian"}}), more);
    assert_refused(
        "AgentVMPool",
        "agentvmpools",
        vec![
            (pool(json!({"goldenSnapshotRef": null})), "spec.goldenSnapshotRef", "Required value"),
            (
                pool(json!({"warm": {"min": 5, "max": 4}})),
                "spec.warm.min",
                "min must not be greater than max",
            ),
            (pool(json!({"warm": {"min": -1}})), "spec.warm.min", "greater than or equal to 0"),
            (pool(json!({"warm": {"max": 0}})), "spec.warm.max", "greater than or equal to 1"),
            (pool(json!({"ttlSeconds": -1})), "spec.ttlSeconds", "greater than or equal to 1"),
            (
                pool(json!({"healthCheckSeconds": 0})),
                "spec.healthCheckSeconds",
                "greater than or equal to 1",
            ),
            (pool(json!({"maxRunSeconds": 0})), "spec.maxRunSeconds", "greater than or equal to 1"),
            (
                pool(json!({"network": {"mode": "Open"}})),
                "spec.network.mode",
                "supported values: \"NatFiltered\"",
            ),
            (
                pool(json!({"limits": {"connections": 0}})),
                "spec.limits.connections",
                "greater than or equal to 1",
            ),
            (
                pool(json!({"limits": {"processes": 1}})),
                "spec.limits.processes",
                "greater than or equal to 16",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_network_that_nobody_can_have() {
    let of = |network: Value| json!({"goldenSnapshotRef": {"name": "debian"}, "network": network});
    let allow = |entry: Value| of(json!({"allow": [with(json!({"protocol": "TCP"}), entry)]}));
    let cidr = |text: &str| allow(json!({"cidrs": ["203.0.113.0/24", text]}));
    let resolver = |text: &str| of(json!({"resolver": text}));
    let entry = "spec.network.allow[0]";
    let mut mistakes = vec![
        (
            of(json!({"mode": "Bridge"})),
            "spec.network.bridge".to_owned(),
            "needs the name of a bridge",
        ),
        (of(json!({"bridge": "br0"})), "spec.network.mode".to_owned(), "bridge is for mode Bridge"),
        (
            of(json!({"mode": "Bridge", "bridge": "a/b"})),
            "spec.network.bridge".to_owned(),
            "should match",
        ),
        (
            of(json!({"mode": "Bridge", "bridge": "b".repeat(16)})),
            "spec.network.bridge".to_owned(),
            "than 15",
        ),
        (allow(json!({"protocol": null})), format!("{entry}.protocol"), "Required value"),
        (
            allow(json!({"protocol": "SCTP"})),
            format!("{entry}.protocol"),
            "supported values: \"TCP\"",
        ),
        (
            allow(json!({"protocol": "ICMP", "ports": [1]})),
            format!("{entry}.ports"),
            "ICMP has no ports",
        ),
        (allow(json!({"ports": [0]})), format!("{entry}.ports[0]"), "greater than or equal to 1"),
        (
            allow(json!({"ports": [80, 65_536]})),
            format!("{entry}.ports[1]"),
            "less than or equal to 65535",
        ),
        (allow(json!({"ports": []})), format!("{entry}.ports"), "at least 1 item"),
        (
            of(json!({"allow": vec![json!({"protocol": "UDP"}); 65]})),
            "spec.network.allow".to_owned(),
            "at most 64",
        ),
    ];
    for text in [
        "10.0.0.0",
        "10.0.0.0/33",
        "256.0.0.0/8",
        "010.0.0.0/8",
        "fd00::/129",
        "fd00::",
        "10.0.0.0/8\n",
        "example.org",
    ] {
        mistakes.push((cidr(text), format!("{entry}.cidrs"), "must be networks such as"));
    }
    for text in ["fd00::/8", "2001:db8::/32", "::/0"] {
        mistakes.push((
            cidr(text),
            "spec.network.allow".to_owned(),
            "needs ipFamilies: [IPv4, IPv6]",
        ));
    }
    let families =
        |list: &[&str], mode: &str| of(json!({"ipFamilies": list, "mode": mode, "bridge": null}));
    for list in [&["IPv6"][..], &["IPv4", "IPv4"], &["IPv6", "IPv6"]] {
        let path = "spec.network.ipFamilies".to_owned();
        mistakes.push((families(list, "NatFiltered"), path, "must be [IPv4] or [IPv4, IPv6]"));
    }
    let both = families(&["IPv4", "IPv6"], "Isolated");
    mistakes.push((
        both,
        "spec.network.ipFamilies".to_owned(),
        "only possible with mode NatFiltered",
    ));
    mistakes.push((
        families(&["IPv5"], "NatFiltered"),
        "spec.network.ipFamilies[0]".to_owned(),
        "supported values",
    ));
    for text in ["dns", "::1", "1.2.3", "1.2.3.256", "1.2.3.4/32"] {
        mistakes.push((
            resolver(text),
            "spec.network.resolver".to_owned(),
            "must be an IPv4 address",
        ));
    }
    let mistakes =
        mistakes.iter().map(|(spec, path, words)| (spec.clone(), path.as_str(), *words)).collect();
    assert_refused("AgentVMPool", "agentvmpools", mistakes).await;
}

#[tokio::test]
async fn what_is_unusual_and_right_is_accepted() {
    let in_both =
        json!([{"path": "a", "content": "1"}, {"path": "a", "content": "2", "place": "Secrets"}]);
    let text =
        json!([{"path": "..a/b..c/...", "content": "NUL is a byte of a file: \0", "mode": 0o755}]);
    assert_accepted(
        "AgentRun",
        "agentruns",
        vec![
            run(json!({})),
            json!({"command": ["true"], "code": null, "timeoutSeconds": null, "output": null}),
            run(json!({"files": in_both})),
            run(json!({"files": text})),
            file(json!({"content": null, "contentBase64": ""})),
            file(json!({"content": null, "contentBase64": "aGVs\nbG8=\n"})),
            file(json!({"path": "main.py"})),
            beside_code("Bash", "main.py"),
            beside_code("Python", "src/main.py"),
            beside_code("Python", "main.py2"),
            with(
                beside_code("Python", "x"),
                json!({"files": [{"path": "main.py", "content": "", "place": "Secrets"}]}),
            ),
            file(json!({"content": null, "contentFrom": {"configMapKeyRef": {"name": "a",
                "key": "b"}}})),
            env(&json!([{"name": "_a1"}, {"name": "PATH", "value": "/bin"}])),
            run(json!({"stdin": "x".repeat(500 * 1024), "ttlSecondsAfterFinished": 0,
                "priority": -1000})),
            run(json!({"output": {"include": []}, "desiredState": "Cancelled"})),
        ],
    )
    .await;
    let pool = |warm: Value| json!({"goldenSnapshotRef": {"name": "debian"}, "warm": warm});
    let all: Vec<i32> = (1..=64).collect();
    let nets: Vec<String> = all.iter().map(|n| format!("203.0.113.{n}/32")).collect();
    let widest = vec![json!({"protocol": "TCP", "ports": all, "cidrs": nets}); 64];
    let widest =
        json!({"mode": "Bridge", "bridge": "br-0.1_a", "allow": widest, "resolver": "10.0.0.2"});
    let nets: Vec<String> =
        all.iter().map(|n| format!("fd12:3456:789a:{n}:ffff:ffff:ffff:ffff/128")).collect();
    let six = vec![json!({"protocol": "TCP", "ports": all, "cidrs": nets}); 64];
    let dual = json!({"ipFamilies": ["IPv6", "IPv4"], "allow": six});
    let limits =
        json!({"diskBytesPerSecond": 1_099_511_627_776_i64, "networkBytesPerSecond": 65_536});
    let pools = vec![
        with(pool(json!({})), json!({"network": widest, "limits": limits})),
        with(
            pool(json!({})),
            json!({"network": {"allow": [{"protocol": "ICMP"}], "bridge": null}}),
        ),
        with(pool(json!({})), json!({"network": dual})),
        with(pool(json!({})), json!({"network": {"ipFamilies": ["IPv4"], "mode": "Isolated"}})),
        pool(json!({})),
        pool(json!({"min": 4})),
        pool(json!({"min": 0, "max": 1})),
        pool(json!({"min": 2, "max": 2})),
    ];
    assert_accepted("AgentVMPool", "agentvmpools", pools).await;
}
