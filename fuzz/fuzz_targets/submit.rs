#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| queue_fuzz::messages::submit(data));
