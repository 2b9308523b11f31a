#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| queue_fuzz::x11::x11(data));
