//! The tools of a person who works in a machine of their own: streams, git, sandboxes, and a
//! program that has files beside it.

use agentvm_e2e::{Error, Host, ensure};
use serde_json::{Value, json};

const USERS: [&str; 2] = ["Agent", "Root"];

async fn as_user(host: &Host, user: &str, script: &str) -> Result<agentvm_e2e::Run, Error> {
    host.run(json!({"runAs": user, "command": ["bash", "-c", script]})).await
}

/// Each line opens a stream by another path. The last ones are another user's, and a process's that
/// has its streams from elsewhere.
const STREAMS: &str = r#"
set -e
echo 1 > /dev/stdout
echo 2 >> /dev/fd/1
echo 3 > /proc/self/fd/1
tee /dev/fd/9 9>&1 > /dev/null <<< 4
python3 -c 'open("/dev/stdout", "w").write("5\n"); open("/dev/stderr", "a").write("five\n")'
exec 7<> /dev/stdout; echo 6 >&7; exec 7>&-
echo one > /dev/stderr
echo two | tee -a /dev/stderr > /dev/null
setsid --wait sh -c 'echo 7 > /dev/stdout; echo three > /dev/fd/2'
unshare --user sh -c 'echo 8 > /dev/stdout'
[ "$(id -u)" != 0 ] || setpriv --reuid 1000 --regid 1000 --clear-groups sh -c 'echo 9 > /dev/stdout'
chmod 600 /dev/stderr
cat < /dev/stdin
"#;

pub async fn a_process_owns_its_streams(host: &Host) -> Result<(), Error> {
    for (user, said) in
        [("Agent", "1\n2\n3\n4\n5\n6\n7\n8\n"), ("Root", "1\n2\n3\n4\n5\n6\n7\n8\n9\n")]
    {
        let command = json!(["bash", "-c", STREAMS]);
        let run =
            host.run(json!({"runAs": user, "command": command, "stdin": "from stdin\n"})).await?;
        ensure!(run.stdout() == format!("{said}from stdin\n"), "as {user}: {run}");
        let stderr = run.status().stderr.clone().unwrap_or_default();
        ensure!(stderr == "five\none\ntwo\nthree\n", "as {user}: {run}");
    }
    Ok(())
}

/// A repository in each folder, of each user, used by the other one too.
const GIT: &str = r#"
set -e
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
other() { if [ "$(id -u)" = 0 ]; then setpriv --reuid 1000 --regid 1000 --clear-groups "$@"; else "$@"; fi; }
for folder in /workspace/work /workspace/output/deep /tmp/repository; do
    mkdir -p $folder; cd $folder
    git init --quiet --initial-branch=main
    git commit --quiet --allow-empty --message one
    git status --short --branch
    other env -i PATH="$PATH" git log --format=%s
done
cd /tmp && git clone --quiet /tmp/repository copy && git -C copy log --format=%s
"#;

pub async fn git_works_everywhere_for_both_users(host: &Host) -> Result<(), Error> {
    for user in USERS {
        let run = as_user(host, user, GIT).await?;
        let said = "## main\none\n".repeat(3) + "one\n";
        ensure!(run.reason() == "Completed" && run.stdout() == said, "as {user}: {run}");
    }
    Ok(())
}

/// The second sandbox is a fresh `/proc` in a user's own namespaces: its files that change the
/// kernel cannot be opened, and there is no way to what is mounted out of sight.
const SANDBOX: &str = r#"
set -e
bwrap --unshare-all --proc /proc --ro-bind / / true
echo "bwrap $(bwrap --ro-bind / / --unshare-all --proc /proc --dev /dev --tmpfs /tmp sh -c 'echo $$')"
unshare --user --map-root-user --pid --fork --mount-proc sh -c '
    echo "unshare $$"
    for switch in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/panic \
        /proc/sys/vm/drop_caches /proc/irq/default_smp_affinity; do
        [ -e $switch ] || echo "no $switch"
        (: > $switch) 2> /dev/null && echo "opened $switch"
    done
    umount /dev 2> /dev/null && echo "uncovered /dev"
    umount /dev/shm 2> /dev/null && echo "uncovered /dev/shm"
    true'
echo "more rights: $((1 - $(sed -n "s/^NoNewPrivs:\t//p" /proc/self/status)))"
[ -u "$(command -v su)" ]
mkfifo password
su < password > /dev/null 2>&1 &
exec 9> password
until [ "$(cat /proc/$!/comm)" = su ]; do :; done
echo "su is uid $(sed -n 's/^Uid:\t[0-9]*\t\([0-9]*\).*/\1/p' /proc/$!/status)"
"#;

pub async fn a_sandbox_of_ones_own_has_a_fresh_proc(host: &Host) -> Result<(), Error> {
    let run = as_user(host, "Agent", SANDBOX).await?;
    let said = "bwrap 2\nunshare 1\nmore rights: 0\nsu is uid 1000\n";
    ensure!(run.stdout() == said, "{run}");
    Ok(())
}

/// A program as text, its files, and the names of its languages.
fn projects() -> [(&'static str, Value, &'static str); 5] {
    let data = json!({"path": "data.csv", "content": "a,b\n"});
    let file = |path: &str, content: &str| json!({"path": path, "content": content});
    let python = "import helper, package.part\nfrom pathlib import Path\n\
        print(helper.name, package.part.name, open('data.csv').read(), end='')\n\
        print(Path(__file__).parent.joinpath('data.csv').read_text(), end='')\n\
        open('data.csv', 'a').write('c,d\\n')\nprint(open('data.csv').read(), end='')";
    let require = "const helper = require('./helper.js');\n\
        const text = require('fs').readFileSync('data.csv', 'utf8');\n\
        process.stdout.write(helper.name + ' ' + require('./package.json').name + ' ' + text)";
    let import = "import { name } from './helper.js';\n\
        import { readFile } from 'node:fs/promises';\n\
        const text = await readFile(new URL('data.csv', import.meta.url), 'utf8');\n\
        process.stdout.write(name + ' ' + text)";
    let awaits = "const { name } = await import('./helper.mjs');\nconsole.log(name)";
    [
        (
            "Python",
            json!({"code": {"language": "Python", "source": python}, "files": [data,
                file("helper.py", "name = 'helper'"), file("package/__init__.py", ""),
                file("package/part.py", "name = 'part'")]}),
            "helper part a,b\na,b\na,b\nc,d\n",
        ),
        (
            "CommonJS",
            json!({"code": {"language": "JavaScript", "source": require}, "files": [data,
                file("helper.js", "exports.name = 'helper'"),
                file("package.json", "{\"name\": \"project\"}")]}),
            "helper project a,b\n",
        ),
        (
            "ES modules",
            json!({"code": {"language": "JavaScript", "source": import}, "files": [data,
                file("helper.js", "export const name = 'helper'")]}),
            "helper a,b\n",
        ),
        (
            "top-level await",
            json!({"code": {"language": "JavaScript", "source": awaits}, "files": [
                file("helper.mjs", "export const name = 'helper'")]}),
            "helper\n",
        ),
        (
            "Bash, as root",
            json!({"code": {"language": "Bash", "source":
                ". ./lib.sh\nname; cat data.csv; bin/tool; cat \"$(dirname \"$0\")/data.csv\""},
                "runAs": "Root", "files": [data, file("lib.sh", "name() { echo helper; }"),
                {"path": "bin/tool", "content": "#!/bin/sh\necho tool\n", "mode": 0o755}]}),
            "helper\na,b\ntool\na,b\n",
        ),
    ]
}

pub async fn code_and_its_files_are_one_project(host: &Host) -> Result<(), Error> {
    for (kind, spec, said) in projects() {
        let run = host.run(spec).await?;
        ensure!(run.reason() == "Completed" && run.stdout() == said, "{kind}: {run}");
    }
    Ok(())
}

/// A command finds its files in the working directory as well. The folder of a program stays the
/// first where Python looks, so a command can be a file of the input.
pub async fn a_command_has_its_files_beside_it(host: &Host) -> Result<(), Error> {
    let run = host
        .run(json!({"command": ["python3", "app.py", "data.csv"], "files": [
            {"path": "app.py", "content":
                "import sys, helper\nprint(helper.name, open(sys.argv[1]).read())"},
            {"path": "helper.py", "content": "name = 'helper'"},
            {"path": "data.csv", "content": "a,b"},
        ]}))
        .await?;
    ensure!(run.stdout() == "helper a,b\n", "{run}");
    Ok(())
}

/// The guide states the versions, and the machine has them.
pub async fn the_guide_states_the_versions(host: &Host) -> Result<(), Error> {
    let script = "python3 -c 'import sys; print(\"Python %d.%d\" % sys.version_info[:2])'; \
        node --version | sed 's/^v\\([0-9]*\\).*/Node \\1/'; \
        npm --version | sed 's/^\\([0-9]*\\).*/npm \\1/'; \
        sed -n 's/^VERSION_ID=\"\\(.*\\)\"/Debian \\1/p' /etc/os-release; \
        uname -r | sed 's/^\\([0-9]*\\.[0-9]*\\).*/Linux \\1/'; \
        node -p process.release.lts";
    let run = host.script("Bash", script).await?;
    let guide = include_str!("../../../docs/user-guide.md");
    let mut lines: Vec<&str> = run.stdout().lines().collect();
    let lts = lines.pop().unwrap_or_default();
    ensure!(lines.len() == 5 && lts != "undefined", "{run}");
    for line in lines {
        ensure!(guide.contains(line), "docs/user-guide.md does not say {line:?}: {run}");
    }
    Ok(())
}
