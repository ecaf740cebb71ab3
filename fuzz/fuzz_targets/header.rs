//! The reader of headers, on whatever bytes come: `cargo +nightly fuzz run header`.
//!
//! It must not panic, and must not hold more memory than the file has; what it accepts lies inside the file.
#![no_main]

use fnl::checkpoint::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let size = bytes.len() as u64;
    if let Ok(Ok(header)) = Header::read(&mut &bytes[..], size) {
        let mut end = header.tensors.first().map_or(size, |tensor| tensor.start);
        for tensor in &header.tensors {
            assert_eq!(tensor.start, end);
            end += tensor.len;
        }
        assert_eq!(end, size);
    }
});
