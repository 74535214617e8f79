#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _verdict = purista_fuzz::targets::unread::run(data);
});
