use super::search::{SearchOptions, Translation};

/// A translation that goes on.
#[derive(Clone, Debug)]
pub(super) struct Hypothesis {
    pub(super) tokens: Vec<u32>,
    /// The sum of its tokens' logarithms of probability.
    pub(super) score: f64,
    /// Which hypothesis of the step before it goes on from.
    pub(super) parent: usize,
}

/// The hypotheses of one source.
#[derive(Clone, Debug)]
pub(super) struct Hypotheses {
    pub(super) running: Vec<Hypothesis>,
    /// Best first, at most as many as the beam is wide.
    finished: Vec<Translation>,
    /// Tokens that a translation may have, the end counted.
    longest: usize,
    done: bool,
}

/// One token more for a hypothesis.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    score: f64,
    parent: usize,
    token: u32,
}

impl Hypotheses {
    /// One hypothesis without tokens.
    pub(super) fn new(longest: usize) -> Self {
        let running = vec![Hypothesis { tokens: Vec::new(), score: 0.0, parent: 0 }];
        Self { running, finished: Vec::new(), longest: longest.max(1), done: false }
    }

    /// Whether nothing better is to come.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// The best translation.
    pub(super) fn into_best(self) -> Translation {
        self.finished.into_iter().next().unwrap_or(Translation { tokens: Vec::new(), score: f64::MIN })
    }

    /// Goes on by one token: rows of logarithms of probability, one row of each running hypothesis. `end` ends a translation;
    /// the last token that is allowed can only be that, at no cost.
    pub(super) fn advance(&mut self, rows: &[Vec<f64>], end: u32, options: &SearchOptions) {
        let length = self.running.first().map_or(0, |hypothesis| hypothesis.tokens.len()) + 1;
        let last = length == self.longest;
        let beams = options.beams.max(1);
        let candidates = if last { self.ended(end) } else { self.best(rows, 2 * beams) };
        let penalty = (length as f64).powf(options.length_penalty);
        let mut running = Vec::with_capacity(beams);
        for (rank, candidate) in candidates.into_iter().enumerate() {
            let tokens = &self.running[candidate.parent].tokens;
            if candidate.token == end {
                // What ends below the beam would not have gone on either.
                if rank < beams {
                    let score = candidate.score / penalty;
                    self.finished.push(Translation { tokens: tokens.clone(), score });
                }
            } else if running.len() < beams {
                let tokens = tokens.iter().copied().chain([candidate.token]).collect();
                running.push(Hypothesis { tokens, score: candidate.score, parent: candidate.parent });
            }
        }
        self.finished.sort_by(|one, other| other.score.total_cmp(&one.score));
        self.finished.truncate(beams);
        self.running = running;
        let full = self.finished.len() == beams;
        let worst = self.finished.last().map_or(f64::MIN, |translation| translation.score);
        let hopeless = match self.running.first() {
            // as if it ended now
            Some(best) => full && best.score / penalty <= worst,
            None => true,
        };
        self.done = hopeless || (full && (options.early_stopping || beams == 1));
    }

    /// All hypotheses ended here, best first.
    fn ended(&self, end: u32) -> Vec<Candidate> {
        let end = |(parent, hypothesis): (usize, &Hypothesis)| Candidate {
            score: hypothesis.score,
            parent,
            token: end,
        };
        self.running.iter().enumerate().map(end).collect()
    }

    /// The `count` best continuations, best first.
    fn best(&self, rows: &[Vec<f64>], count: usize) -> Vec<Candidate> {
        let mut best: Vec<Candidate> = Vec::with_capacity(count + 1);
        for (parent, (hypothesis, row)) in self.running.iter().zip(rows).enumerate() {
            for (token, &log_p) in row.iter().enumerate() {
                let score = hypothesis.score + log_p;
                let full = best.len() == count;
                if log_p == f64::NEG_INFINITY || (full && score <= best[count - 1].score) {
                    continue;
                }
                let at = best.partition_point(|other| other.score >= score);
                best.insert(at, Candidate { score, parent, token: token as u32 });
                best.truncate(count);
            }
        }
        best
    }
}
