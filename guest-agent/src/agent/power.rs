//! The ACPI power button: a host presses it to turn a machine off.

use std::fs::File;
use std::io::Read as _;

use tokio::sync::mpsc;

/// `struct input_event` on 64-bit Linux: two words of time, type u16, code u16, value i32.
const EVENT: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// A message for each press. One thread for each input device; they sleep in the kernel.
pub fn presses() -> mpsc::Receiver<()> {
    let (sender, presses) = mpsc::channel(1);
    for entry in std::fs::read_dir("/dev/input").into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("event") {
            continue;
        }
        if let Ok(device) = File::open(entry.path()) {
            let sender = sender.clone();
            let _ = std::thread::Builder::new()
                .name("power".to_owned())
                .spawn(move || watch(device, &sender));
        }
    }
    presses
}

fn watch(mut device: File, presses: &mpsc::Sender<()>) {
    let mut event = [0; EVENT];
    while device.read_exact(&mut event).is_ok() {
        if is_press(&event) && presses.blocking_send(()).is_err() {
            return;
        }
    }
}

fn is_press(event: &[u8; EVENT]) -> bool {
    let [.., t0, t1, c0, c1, v0, v1, v2, v3] = *event;
    u16::from_ne_bytes([t0, t1]) == EV_KEY
        && u16::from_ne_bytes([c0, c1]) == KEY_POWER
        && i32::from_ne_bytes([v0, v1, v2, v3]) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_press_of_the_power_key_counts() {
        let mut event = [0; EVENT];
        event[16] = 1;
        event[18] = 116;
        assert!(!is_press(&event), "release");
        event[20] = 1;
        assert!(is_press(&event));
        event[18] = 30;
        assert!(!is_press(&event), "another key");
    }
}
