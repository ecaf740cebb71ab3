/// Outputs that are a fixed step apart on one axis, and the taps that they are sums over.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// The first output.
    pub start: usize,
    /// Steps from one output to the next.
    pub step: usize,
    /// How many outputs there are.
    pub count: usize,
    /// Steps in the padded source from one output to the next.
    pub stride: usize,
    /// Index of each tap in the kernel, and the position of the first output's in the padded source.
    pub taps: Vec<(usize, usize)>,
}

impl Axis {
    /// The outputs of a convolution on one axis.
    pub(super) fn forward(output: usize, kernel: usize, stride: usize, dilation: usize) -> Self {
        let taps = (0..kernel).map(|k| (k, k * dilation)).collect();
        Self { start: 0, step: 1, count: output, stride, taps }
    }

    /// The inputs of a convolution on one axis, as sums over outputs: one family for each remainder by the stride, and the
    /// zeros that the outputs need before them.
    ///
    /// Output y and tap k meet input `y stride + k dilation - padding`. With `input + padding = q stride + a`, the taps of that
    /// input are those with `k dilation = e stride + a`, and meet it from `y = q - e`.
    pub(super) fn backward(
        input: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        dilation: usize,
    ) -> (Vec<Self>, usize) {
        let families: Vec<(usize, usize, usize)> = (0..stride)
            .filter_map(|a| {
                let q = padding.saturating_sub(a).div_ceil(stride);
                let end = (padding + input).saturating_sub(a).div_ceil(stride);
                (q < end).then(|| (a, q, end - q))
            })
            .collect();
        let farthest = (kernel - 1) * dilation / stride;
        let lead = families.iter().map(|&(_, q, _)| farthest.saturating_sub(q)).max().unwrap_or(0);
        let axis = |(a, q, count): (usize, usize, usize)| Self {
            start: q * stride + a - padding,
            step: stride,
            count,
            stride: 1,
            taps: (0..kernel)
                .filter(|k| k * dilation % stride == a)
                .map(|k| (k, q + lead - k * dilation / stride))
                .collect(),
        };
        (families.into_iter().map(axis).collect(), lead)
    }

    /// Positions in the padded source up to the last that `count` outputs read.
    pub(super) fn span(&self, count: usize) -> usize {
        let farthest = self.taps.iter().map(|&(_, position)| position).max();
        farthest.map_or(0, |position| position + count.saturating_sub(1) * self.stride + 1)
    }
}
