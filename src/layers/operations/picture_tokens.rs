use crate::layers::operation::Needs;
use crate::layers::{Operation, View};
use candle_core::{Result, Tensor, bail};

/// Pictures as sequences of tokens: a token of their own, then each patch, row by row, with a position added to each.
///
/// # Shapes
///
/// | | shape |
/// | --- | --- |
/// | patches | `(b, d, h, w)` |
/// | token | `(1, 1, d)` |
/// | positions | `(1, h w + 1, d)` |
/// | output | `(b (h w + 1), d)` |
///
/// # Reference
///
/// Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021, equation 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureTokens;

impl PictureTokens {
    /// Pictures, elements of a token, and patches of a picture.
    fn sizes(inputs: [&[usize]; 3]) -> Result<[usize; 3]> {
        let [&[b, d, h, w], token, positions] = inputs else {
            bail!("patches need a shape (b, d, h, w), found {:?}", inputs[0]);
        };
        if *token != [1, 1, d] || *positions != [1, h * w + 1, d] {
            bail!(
                "a token {token:?} and positions {positions:?} do not fit {} patches of {d} elements",
                h * w
            );
        }
        Ok([b, d, h * w])
    }
}

impl Operation for PictureTokens {
    fn name(&self) -> &'static str {
        "picture_tokens"
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Tensor> {
        let [b, d, patches] = Self::sizes([inputs[0].dims(), inputs[1].dims(), inputs[2].dims()])?;
        // (b, d, h, w) -> (b, h w, d)
        let rows = inputs[0].flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let first = inputs[1].broadcast_as((b, 1, d))?.contiguous()?;
        let all = Tensor::cat(&[first, rows], 1)?.broadcast_add(&inputs[2])?;
        all.reshape((b * (patches + 1), d))
    }

    fn forward(&self, inputs: &[View<'_>]) -> Result<(Vec<f32>, Vec<usize>)> {
        let [b, d, patches] = Self::sizes([inputs[0].shape, inputs[1].shape, inputs[2].shape])?;
        let [pictures, token, positions] = [inputs[0].data, inputs[1].data, inputs[2].data];
        let mut ys = Vec::with_capacity(b * (patches + 1) * d);
        for picture in pictures.chunks_exact((d * patches).max(1)) {
            ys.extend(token.iter().zip(positions).map(|(x, p)| x + p));
            for (patch, positions) in positions[d..].chunks_exact(d.max(1)).enumerate() {
                ys.extend(positions.iter().enumerate().map(|(j, p)| picture[j * patches + patch] + p));
            }
        }
        Ok((ys, vec![b * (patches + 1), d]))
    }

    fn backward(
        &self,
        inputs: &[View<'_>],
        _output: View<'_>,
        gradient: View<'_>,
        wanted: &[bool],
    ) -> Result<Vec<Option<Vec<f32>>>> {
        let [b, d, patches] = Self::sizes([inputs[0].shape, inputs[1].shape, inputs[2].shape])?;
        let mut of_pictures = vec![0.0; b * d * patches];
        let mut of_positions = vec![0.0; (patches + 1) * d];
        let pictures = of_pictures.chunks_exact_mut((d * patches).max(1));
        for (picture, dy) in pictures.zip(gradient.data.chunks_exact(((patches + 1) * d).max(1))) {
            of_positions.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
            for (patch, dy) in dy[d..].chunks_exact(d.max(1)).enumerate() {
                for (j, dy) in dy.iter().enumerate() {
                    picture[j * patches + patch] = *dy;
                }
            }
        }
        let of_token = of_positions[..d].to_vec();
        let found = [of_pictures, of_token, of_positions];
        Ok(wanted.iter().zip(found).map(|(wanted, found)| wanted.then_some(found)).collect())
    }

    fn needs(&self) -> Needs {
        Needs { inputs: false, output: false }
    }
}
