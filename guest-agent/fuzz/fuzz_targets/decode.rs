//! Feeds any bytes, cut anywhere, to either side: no panic, no unbounded memory, and each decoded
//! message encodes to equal bytes.
#![no_main]

#[path = "../../tests/hostile/mod.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    hostile::decode_all(bytes);
});
