//! The parts of an installation outside of its folder: processes, mounts, domains.

use std::fs;
use std::path::Path;

/// Here libvirt records its domains, running or defined.
const DOMAINS: [&str; 2] = ["/run/libvirt/qemu", "/etc/libvirt/qemu"];

/// Everything that should be gone after the end, in words.
pub fn leftovers(data_dir: &Path) -> Vec<String> {
    let mut found: Vec<String> = processes(data_dir, "")
        .into_iter()
        .map(|(pid, command)| format!("process {pid}: {command}"))
        .collect();
    found.extend(mounts(data_dir).into_iter().map(|at| format!("mount {at}")));
    found.extend(domains(data_dir));
    found
}

/// Living processes whose command line contains the folder, and whose executable's name contains
/// `program`.
pub fn processes(data_dir: &Path, program: &str) -> Vec<(i32, String)> {
    let below = format!("{}/", data_dir.display());
    let is_it = data_dir.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> =
            line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word)).collect();
        let ours = words.iter().any(|word| word.contains(&below) || *word == is_it);
        // The janitor waits for this process.
        if ours && words[0] != "sh" && words[0].contains(program) {
            found.push((pid, words.join(" ").chars().take(160).collect()));
        }
    }
    found
}

fn mounts(data_dir: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let paths = table.lines().filter_map(|line| line.split(' ').nth(4));
    paths.filter(|path| Path::new(path).starts_with(data_dir)).map(str::to_owned).collect()
}

fn domains(data_dir: &Path) -> Vec<String> {
    let below = format!("{}/", data_dir.display());
    let files = DOMAINS.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    files
        .filter(|file| fs::read_to_string(file.path()).is_ok_and(|text| text.contains(&below)))
        .map(|file| format!("domain {}", file.path().display()))
        .collect()
}
