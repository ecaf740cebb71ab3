use candle_core::{Result, bail};

/// Where the taps of a two-dimensional convolution lie: every axis has its own stride, padding and dilation.
///
/// Per axis, `output = (input + 2 padding - dilation (kernel - 1) - 1) / stride + 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Geometry {
    /// Samples.
    pub batch: usize,
    /// Channels of the input, of all groups.
    pub in_channels: usize,
    /// Channels of the output, of all groups.
    pub out_channels: usize,
    /// Groups that share no channels.
    pub groups: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Steps between the taps' positions, down and across.
    pub stride: [usize; 2],
    /// Zeros on both sides, above and below, left and right.
    pub padding: [usize; 2],
    /// Steps between the taps, down and across.
    pub dilation: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
}

impl Geometry {
    /// The geometry of a convolution of `xs`, shape `(b, c, h, w)`, with a kernel of shape `(o, c / groups, kh, kw)`.
    ///
    /// # Errors
    ///
    /// - shapes that are not four-dimensional, or channels that the groups do not divide as the kernel says;
    /// - a zero among stride, dilation and groups, and a kernel larger than its padded input.
    pub fn new(
        xs: &[usize],
        kernel: &[usize],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
        groups: usize,
    ) -> Result<Self> {
        let (&[batch, in_channels, h, w], &[out_channels, inner, kh, kw]) = (xs, kernel) else {
            bail!(
                "a convolution needs an input (b, c, h, w) and a kernel (o, i, kh, kw), found {xs:?} and {kernel:?}"
            );
        };
        if groups == 0 || stride.contains(&0) || dilation.contains(&0) || kh == 0 || kw == 0 {
            bail!(
                "stride {stride:?}, dilation {dilation:?}, groups {groups} and kernel {kernel:?} must not be zero"
            );
        }
        if inner * groups != in_channels || !out_channels.is_multiple_of(groups) {
            bail!(
                "a kernel {kernel:?} in {groups} groups expects {} input channels, found {xs:?}",
                inner * groups
            );
        }
        let mut output = [0; 2];
        for (axis, (size, taps)) in [(h, kh), (w, kw)].into_iter().enumerate() {
            let span = dilation[axis] * (taps - 1) + 1;
            let padded = size + 2 * padding[axis];
            if padded < span {
                bail!(
                    "a kernel {kernel:?} with dilation {dilation:?} does not fit the input {xs:?} with padding {padding:?}"
                );
            }
            output[axis] = (padded - span) / stride[axis] + 1;
        }
        Ok(Self {
            batch,
            in_channels,
            out_channels,
            groups,
            input: [h, w],
            kernel: [kh, kw],
            stride,
            padding,
            dilation,
            output,
        })
    }

    /// The shape of the input, `(b, c, h, w)`.
    #[must_use]
    pub fn input_shape(&self) -> [usize; 4] {
        [self.batch, self.in_channels, self.input[0], self.input[1]]
    }

    /// The shape of the output, `(b, o, h', w')`.
    #[must_use]
    pub fn output_shape(&self) -> [usize; 4] {
        [self.batch, self.out_channels, self.output[0], self.output[1]]
    }

    /// The shape of the kernel, `(o, c / groups, kh, kw)`.
    #[must_use]
    pub fn kernel_shape(&self) -> [usize; 4] {
        [self.out_channels, self.in_channels / self.groups, self.kernel[0], self.kernel[1]]
    }

    /// Whether each channel is a group of its own.
    #[must_use]
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.in_channels == self.groups && self.out_channels == self.groups
    }

    /// Multiply-adds of the forward pass.
    #[must_use]
    pub fn multiply_adds(&self) -> u64 {
        let taps: usize = self.kernel_shape().iter().product();
        taps as u64 * (self.batch * self.output[0] * self.output[1]) as u64
    }
}
