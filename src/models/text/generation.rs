use super::network::TextNetwork;
use super::sampler::Sampler;
use super::tokens::Tokens;
use crate::layers::{KeyValues, Tape};
use candle_core::{DType, Device, Result, bail};

/// A text that a language model continues, token by token; keys and values of what came before are kept.
#[derive(Debug)]
pub struct Generation<'a> {
    network: &'a TextNetwork,
    sampler: Sampler,
    keep: KeyValues,
    /// Tokens that the network has not seen.
    next: Vec<u32>,
}

impl<'a> Generation<'a> {
    /// Begins behind these tokens.
    ///
    /// # Errors
    ///
    /// - a network that reads in both directions; no tokens, more than it takes, or such as it doesn't know
    pub fn new(network: &'a TextNetwork, prompt: &[u32], sampler: Sampler) -> Result<Self> {
        let (longest, vocabulary) = (network.config().longest(), network.config().vocabulary());
        if !network.is_causal() {
            bail!("only a language model that reads from left to right continues texts");
        }
        if prompt.is_empty() || prompt.len() > longest {
            bail!("{} tokens to continue, expected from 1 to {longest}", prompt.len());
        }
        if let Some(token) = prompt.iter().find(|&&token| token as usize >= vocabulary) {
            bail!("token {token} is not among the network's {vocabulary}");
        }
        Ok(Self { network, sampler, keep: KeyValues::new(), next: prompt.to_vec() })
    }

    /// Tokens so far, the prompt's included.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.keep.tokens() + self.next.len()
    }

    /// Chooses the next token.
    ///
    /// # Errors
    ///
    /// - more tokens than the network takes; scores that are not numbers
    pub fn step(&mut self) -> Result<u32> {
        let longest = self.network.config().longest();
        if self.tokens() > longest {
            bail!("the text has {} tokens, and this network takes at most {longest}", self.tokens());
        }
        let tape = Tape::inference();
        let tokens = Tokens::new(std::slice::from_ref(&self.next))?.from_position(self.keep.tokens());
        let hidden = self.network.hidden_next(&tape, &tokens, &mut self.keep)?;
        // only the last token's scores are asked for: (tokens, d) -> (1, d)
        let last = hidden.tensor().narrow(0, self.next.len() - 1, 1)?.copy()?;
        let scores = self.network.vocabulary_logits(&tape, &tape.constant(&last))?;
        let scores = scores.tensor().to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let token = self.sampler.choose(&scores.flatten_all()?.to_vec1::<f32>()?)?;
        self.next = vec![token];
        Ok(token)
    }
}
