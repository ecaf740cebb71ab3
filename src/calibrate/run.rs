use std::fmt;

/// Hears how many of a calibration's tokens, or pictures, have been run.
pub trait CalibrationProgress {
    /// So many more.
    fn ran(&self, samples: usize);
}

/// How a network is run over samples.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct CalibrationRun<'a> {
    /// Whether gradients of what the network says are summed up too.
    pub gradients: bool,
    /// What labels, probes and positions are drawn from.
    pub seed: u64,
    /// Threads that sum up.
    pub threads: usize,
    /// Which layers are looked at, by name; all if none.
    pub wanted: Option<&'a dyn Fn(&str) -> bool>,
    /// Who hears of it.
    pub progress: &'a dyn CalibrationProgress,
}

impl<'a> CalibrationRun<'a> {
    /// A run without gradients that looks at all layers, on one thread.
    #[must_use]
    pub fn new(progress: &'a dyn CalibrationProgress) -> Self {
        Self { gradients: false, seed: 0, threads: 1, wanted: None, progress }
    }

    pub(super) fn wants(&self, layer: &str) -> bool {
        self.wanted.is_none_or(|wanted| wanted(layer))
    }
}

impl fmt::Debug for CalibrationRun<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gradients, seed, threads, .. } = self;
        f.debug_struct("CalibrationRun")
            .field("gradients", gradients)
            .field("seed", seed)
            .field("threads", threads)
            .finish_non_exhaustive()
    }
}
