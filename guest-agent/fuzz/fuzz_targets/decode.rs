//! Any bytes, in any cut, on either side: no panic, no unbounded memory, and what was decoded encodes to the same again.
#![no_main]

#[path = "../../tests/hostile/mod.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    hostile::decode_all(bytes);
});
