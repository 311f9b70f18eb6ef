//! The basic expectations of a person about a run.

use agentvm_e2e::{Error, Host, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::PostParams;
use serde_json::json;

pub async fn three_languages_are_there(host: &Host) -> Result<(), Error> {
    let scripts = [
        ("Python", "import sys; print('python', 6 * 7); sys.exit(1)"),
        ("Bash", "echo bash $((6 * 7)); exit 1"),
        ("JavaScript", "console.log('node', 6 * 7); process.exit(1)"),
    ];
    for ((language, source), said) in
        scripts.into_iter().zip(["python 42\n", "bash 42\n", "node 42\n"])
    {
        let run = host.script(language, source).await?;
        ensure!(run.stdout() == said && run.status().exit_code == Some(1), "{run}");
    }
    Ok(())
}

pub async fn the_tools_of_an_agent_are_there(host: &Host) -> Result<(), Error> {
    let script = r#"
        set -e
        python3 -c "import pip, requests, venv"; command -v node npm pip3
        git --version; curl --version; ssh -V; ip -brief link show lo
        [ -s /etc/ssl/certs/ca-certificates.crt ]
        echo "$(id -u) $(id -un) $HOME $PWD"
    "#;
    let run = host.script("Bash", script).await?;
    ensure!(run.reason() == "Completed", "{run}");
    ensure!(run.stdout().ends_with("1000 agent /home/agent /workspace/work\n"), "{run}");
    Ok(())
}

pub async fn environment_and_stdin_reach_the_program(host: &Host) -> Result<(), Error> {
    let secret =
        json!({"metadata": {"name": "environment"}, "stringData": {"key": "out of a Secret"}});
    host.api::<Secret>().create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
    let config =
        json!({"metadata": {"name": "environment"}, "data": {"key": "out of a ConfigMap"}});
    host.api::<ConfigMap>()
        .create(&PostParams::default(), &serde_json::from_value(config)?)
        .await?;
    let run = host
        .run(json!({
            "command": ["bash", "-c", "cat; echo \"$PLAIN|$SECRET|$CONFIG|$LANG|$0|${0//x}\"",
                "a\"b $HOME é"],
            "stdin": "from stdin: ä\n",
            "env": [
                {"name": "PLAIN", "value": "two words & $PATH"},
                {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "environment",
                    "key": "key"}}},
                {"name": "CONFIG", "valueFrom": {"configMapKeyRef": {"name": "environment",
                    "key": "key"}}},
            ],
        }))
        .await?;
    let said = "from stdin: ä\ntwo words & $PATH|out of a Secret|out of a ConfigMap|C.UTF-8|a\"b \
        $HOME é|a\"b $HOME é\n";
    ensure!(run.stdout() == said, "{run}");
    Ok(())
}

pub async fn a_program_that_is_not_there_is_reported_as_a_shell_would(
    host: &Host,
) -> Result<(), Error> {
    let run = host.run(json!({"command": ["no-such-program"]})).await?;
    ensure!(run.reason() == "NonZeroExit" && run.status().exit_code == Some(127), "{run}");
    ensure!(run.message().contains("no-such-program"), "{run}");
    Ok(())
}
