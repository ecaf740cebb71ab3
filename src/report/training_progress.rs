use super::training::{percent, policy_text};
use crate::layers::{Parameters, Role};
use crate::train::{DecayTable, EpochMetrics, StepOutcome, TrainingProgress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

/// How much of the mean shown each new step is.
const SHOWN_MOMENTUM: f64 = 0.05;

/// Training on stderr: a bar where it is a terminal, a line per epoch where it is not.
#[derive(Debug)]
pub struct TerminalTraining {
    terminal: bool,
    state: RefCell<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    training: Option<ProgressBar>,
    pass: Option<ProgressBar>,
    epochs: usize,
    /// What samples are.
    unit: &'static str,
    /// Loss and accuracy, averaged over the last steps.
    mean: Option<(f64, f64)>,
    /// Samples since training began here, and when that was.
    samples: usize,
    begun: Option<Instant>,
}

impl TerminalTraining {
    /// Training for a stderr that is, or is not, a terminal.
    #[must_use]
    pub fn new(terminal: bool) -> Self {
        Self { terminal, state: RefCell::default() }
    }

    fn bar(&self, length: u64, template: &str) -> Option<ProgressBar> {
        self.terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(length.max(1)), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        })
    }

    fn line(&self, line: &str) {
        match &self.state.borrow().training {
            Some(bar) => bar.println(line),
            // A closed stderr is no reason to stop.
            None => {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
        }
    }
}

impl TrainingProgress for TerminalTraining {
    fn policy(&self, parameters: &Parameters, decay: &DecayTable) {
        let of = |(name, parameter): (&str, &crate::layers::Parameter)| {
            let role = match parameter.role() {
                Role::Factor => "factors",
                Role::Bias => "biases",
                Role::Normalization => "normalizations",
                _ => "dense weights",
            };
            (role, decay.get(name), parameter.var().elem_count() as u64)
        };
        self.line(policy_text(parameters.trained().map(of)).trim_end());
    }

    fn begin(&self, unit: &'static str, epochs: usize, steps_per_epoch: u64, done: u64) {
        let template = "{prefix} {bar:24} {pos}/{len} {msg}, {eta} left";
        let bar = self.bar(epochs as u64 * steps_per_epoch, template);
        if let Some(bar) = &bar {
            bar.set_position(done);
            bar.reset_eta();
        }
        *self.state.borrow_mut() =
            Shown { training: bar, unit, epochs, begun: Some(Instant::now()), ..Shown::default() };
    }

    fn step(&self, epoch: usize, outcome: &StepOutcome) {
        let mut state = self.state.borrow_mut();
        let now = (
            outcome.loss,
            outcome.correct.map_or(f64::NAN, |correct| correct as f64 / outcome.samples.max(1) as f64),
        );
        let blend = |old: f64, new: f64| old + SHOWN_MOMENTUM * (new - old);
        let mean = state.mean.map_or(now, |mean| (blend(mean.0, now.0), blend(mean.1, now.1)));
        state.mean = Some(mean);
        state.samples += outcome.samples;
        let Some(bar) = &state.training else { return };
        let elapsed = state.begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        bar.set_prefix(format!("epoch {epoch}/{}", state.epochs));
        let accuracy = accuracy_text(mean.1);
        let rate = state.samples as f64 / elapsed.max(1e-3);
        bar.set_message(format!("loss {:.3}{accuracy}, {rate:.0} {}/s", mean.0, state.unit));
        bar.inc(1);
    }

    fn pass(&self, what: &'static str, samples: usize) {
        let bar = self.bar(samples as u64, "{prefix} {bar:24} {pos}/{len} samples, {eta} left");
        if let Some(bar) = &bar {
            bar.set_prefix(what);
        }
        self.state.borrow_mut().pass = bar;
    }

    fn seen(&self, samples: usize) {
        if let Some(bar) = &self.state.borrow().pass {
            bar.inc(samples as u64);
        }
    }

    fn passed(&self) {
        if let Some(bar) = self.state.borrow_mut().pass.take() {
            bar.finish_and_clear();
        }
    }

    fn epoch(&self, metrics: &EpochMetrics) {
        let epochs = self.state.borrow().epochs;
        let mut test = format!("test loss {:.4}{}", metrics.test_loss, accuracy_text(metrics.test_accuracy));
        for (name, score) in &metrics.scores {
            let _ = write!(test, ", {name} {score:.4}");
        }
        let line = if metrics.train_loss.is_finite() {
            format!(
                "epoch {}/{epochs}: loss {:.4}{}; {test}; {:.0} s",
                metrics.epoch,
                metrics.train_loss,
                accuracy_text(metrics.train_accuracy),
                metrics.elapsed_secs
            )
        } else {
            format!("before training: {test}")
        };
        self.line(&line);
    }

    fn end(&self) {
        if let Some(bar) = self.state.borrow_mut().training.take() {
            bar.finish_and_clear();
        }
    }

    fn warn(&self, message: &str) {
        self.line(&format!("warning: {message}"));
    }
}

/// An accuracy after a comma, where there is one.
fn accuracy_text(accuracy: f64) -> String {
    if accuracy.is_finite() { format!(", accuracy {}", percent(accuracy)) } else { String::new() }
}
