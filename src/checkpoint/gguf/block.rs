use candle_core::quantized::GgmlDType;
use std::fmt;

/// How a tensor's elements are stored: by themselves, or some of a row in a block with common scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockType(GgmlDType);

impl BlockType {
    /// The type of this number, where it is known here.
    pub(super) fn of(number: u32) -> Option<Self> {
        Some(Self(match number {
            0 => GgmlDType::F32,
            1 => GgmlDType::F16,
            2 => GgmlDType::Q4_0,
            3 => GgmlDType::Q4_1,
            6 => GgmlDType::Q5_0,
            7 => GgmlDType::Q5_1,
            8 => GgmlDType::Q8_0,
            10 => GgmlDType::Q2K,
            11 => GgmlDType::Q3K,
            12 => GgmlDType::Q4K,
            13 => GgmlDType::Q5K,
            14 => GgmlDType::Q6K,
            30 => GgmlDType::BF16,
            _ => return None,
        }))
    }

    /// What llama.cpp calls the type of this number.
    pub(super) fn name_of(number: u32) -> String {
        const NAMES: [(u32, &str); 21] = [
            (9, "Q8_1"),
            (15, "Q8_K"),
            (16, "IQ2_XXS"),
            (17, "IQ2_XS"),
            (18, "IQ3_XXS"),
            (19, "IQ1_S"),
            (20, "IQ4_NL"),
            (21, "IQ3_S"),
            (22, "IQ2_S"),
            (23, "IQ4_XS"),
            (24, "I8"),
            (25, "I16"),
            (26, "I32"),
            (27, "I64"),
            (28, "F64"),
            (29, "IQ1_M"),
            (34, "TQ1_0"),
            (35, "TQ2_0"),
            (39, "MXFP4"),
            (4, "Q4_2"),
            (5, "Q4_3"),
        ];
        let named = NAMES.iter().find(|(other, _)| *other == number).map(|(_, name)| (*name).to_owned());
        Self::of(number).map(|known| known.to_string()).or(named).unwrap_or_else(|| number.to_string())
    }

    /// As candle has it.
    pub(super) fn of_candle(self) -> GgmlDType {
        self.0
    }

    /// Elements of a block.
    #[must_use]
    pub fn block_elements(self) -> usize {
        self.0.block_size()
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        self.0.type_size()
    }
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{:?}", self.0);
        // candle writes Q4K for llama.cpp's Q4_K
        match name.strip_suffix('K') {
            Some(bits) => write!(f, "{bits}_K"),
            None => f.write_str(&name),
        }
    }
}
