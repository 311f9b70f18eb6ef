//! Stands for QEMU in the library's tests: maps a file as the first argument asks, and follows the
//! orders on stdin.
//!
//! `write` puts an `x` at the start of each page. `read` prints the first bytes of the first and
//! last page. The end of stdin ends it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says by panicking what is wrong"
)]

use std::io::{BufRead, Write};
use std::os::fd::AsRawFd;

const PAGE: usize = 4096;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, how, path] = arguments.as_slice() else { panic!("how and what to map") };
    let file = std::fs::OpenOptions::new().read(true).write(how == "shared").open(path).unwrap();
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap()
        / if how == "half" { 2 } else { 1 };
    let sharing = if how == "shared" { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    let access =
        if how == "readonly" { libc::PROT_READ } else { libc::PROT_READ | libc::PROT_WRITE };
    // SAFETY: a new mapping at a place of the kernel's choice changes nothing that is there.
    let memory =
        unsafe { libc::mmap(std::ptr::null_mut(), length, access, sharing, file.as_raw_fd(), 0) };
    assert_ne!(memory, libc::MAP_FAILED);
    let first = memory.cast::<u8>();
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        match line.unwrap().as_str() {
            "write" => {
                for page in (0..length).step_by(PAGE) {
                    // SAFETY: within the mapping of `length` bytes; volatile, because others change
                    // it too.
                    unsafe { first.add(page).write_volatile(b'x') };
                }
                println!("written");
            }
            "read" => {
                // SAFETY: as above.
                let (start, end) =
                    unsafe { (first.read_volatile(), first.add(length - PAGE).read_volatile()) };
                println!("{}{}", char::from(start), char::from(end));
            }
            other => panic!("{other}"),
        }
        std::io::stdout().flush().unwrap();
    }
}
