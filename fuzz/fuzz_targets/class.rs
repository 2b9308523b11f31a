#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| queue_fuzz::text::class(data));
