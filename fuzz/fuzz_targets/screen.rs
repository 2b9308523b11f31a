#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| queue_fuzz::screen::screen(data));
