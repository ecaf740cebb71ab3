use crc32c::crc32c;

/// FNV-1a of 64 bits: the same everywhere, and as good as telling data sets apart needs.
#[derive(Clone, Copy)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.mix(bytes);
    }

    pub(super) fn number(&mut self, number: u64) {
        self.mix(&number.to_le_bytes());
    }

    /// Adds the checksum of many bytes, which costs less than the bytes themselves.
    pub(super) fn bulk(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.number(u64::from(crc32c(bytes)));
    }

    pub(super) fn finish(self) -> u64 {
        self.0
    }

    fn mix(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Fingerprint;

    /// The published test vector of FNV-1a for `foobar`.
    #[test]
    fn is_fnv_1a() {
        let mut fingerprint = Fingerprint::new();
        fingerprint.mix(b"foobar");
        assert_eq!(fingerprint.finish(), 0x8594_4171_f739_67e8);
    }
}
