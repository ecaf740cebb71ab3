use super::samples::Samples;

/// What a reader of a format found.
pub(super) struct Contents {
    pub(super) samples: Samples,
    pub(super) labels: Vec<u32>,
    pub(super) class_names: Vec<String>,
}
