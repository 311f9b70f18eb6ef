//! Sees the frames that attackers mark, wherever on the host they come by.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use agentvm_testing::wait_until;

/// Link and direction of each mark.
type Sightings = BTreeMap<String, BTreeSet<(String, String)>>;

/// Where frames with a mark were seen on the host, by mark: (link, `in` or `out`).
pub struct Spy {
    child: Child,
    seen: Arc<Mutex<Sightings>>,
}

impl Spy {
    /// Looks for marks that begin with this.
    pub fn new(salt: &str) -> Self {
        let script = include_str!("spy.py");
        let mut child = Command::new("python3")
            .args(["-c", script, salt])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let seen = Arc::new(Mutex::new(Sightings::new()));
        let into = seen.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let words: Vec<&str> = line.split(' ').collect();
                let at = (words[0].to_owned(), words[1].to_owned());
                into.lock().unwrap().entry(words[2].to_owned()).or_default().insert(at);
            }
        });
        Self { child, seen }
    }

    pub fn seen(&self) -> Sightings {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until a mark was seen on a link.
    pub fn until(&self, mark: &str, link: &str) {
        let there =
            || self.seen().get(mark).is_some_and(|seen| seen.iter().any(|(at, _)| at == link));
        wait_until(&format!("{mark} on {link}"), there);
    }
}

impl Drop for Spy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
