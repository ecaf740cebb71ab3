use super::units;
use crate::plan::{LayerEvent, Progress, Stage};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Progress on stderr: a bar where it is a terminal, a line per layer where it is not.
#[derive(Debug)]
pub struct TerminalProgress {
    terminal: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bar: Option<ProgressBar>,
    done: usize,
    layers: usize,
    verb: &'static str,
    begun: Option<Instant>,
}

impl TerminalProgress {
    /// Progress for a stderr that is, or is not, a terminal.
    #[must_use]
    pub fn new(terminal: bool) -> Self {
        Self { terminal, state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for TerminalProgress {
    fn begin(&self, stage: Stage, layers: usize, work: u64) {
        let verb = match stage {
            Stage::Calibrating => "calibrated",
            Stage::Spectra => "spectrum",
            Stage::Comparing => "compared",
            Stage::Factoring => "factored",
            Stage::Collapsing => "collapsed",
            Stage::Verifying => "verified",
        };
        let bar = self.terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(work.max(1)), ProgressDrawTarget::stderr());
            let template = "{prefix} {bar:28} {percent:>3} % {msg}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(format!("{verb} 0/{layers}"));
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
            bar
        });
        *self.state() = State { bar, done: 0, layers, verb, begun: Some(Instant::now()) };
    }

    fn started(&self, layer: &str) {
        if let Some(bar) = &self.state().bar {
            bar.set_message(units::printable(layer).into_owned());
        }
    }

    fn finished(&self, event: &LayerEvent<'_>, work: u64) {
        let mut state = self.state();
        state.done += 1;
        let place = format!("{} {}/{}", state.verb, state.done, state.layers);
        let mut what = units::printable(event.layer).into_owned();
        if let Some(scheme) = event.scheme {
            let _ = write!(what, " {scheme}");
        }
        if let Some(ranks) = event.ranks {
            let _ = write!(what, " rank {ranks}");
        }
        if let Some(error) = event.relative_error {
            let _ = write!(what, " error {}", units::error(error));
        }
        if let Some(bar) = &state.bar {
            let elapsed = state.begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
            bar.set_prefix(format!("{place}, {:.1} layers/s", state.done as f64 / elapsed.max(1e-3)));
            bar.set_message(what);
            bar.inc(work);
        } else {
            // A closed stderr is no reason to stop.
            let _ = writeln!(std::io::stderr(), "{place} {what} in {}", units::seconds(event.elapsed_secs));
        }
    }

    fn advanced(&self, event: &LayerEvent<'_>, work: u64) {
        let mut state = self.state();
        let before = 10 * state.done / state.layers.max(1);
        state.done += work as usize;
        let place = format!("{} {}/{}", state.verb, state.done, state.layers);
        if let Some(bar) = &state.bar {
            let elapsed = state.begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
            bar.set_prefix(format!("{place} {}", event.layer));
            bar.set_message(format!("{:.0} {}/s", state.done as f64 / elapsed.max(1e-3), event.layer));
            bar.inc(work);
        } else if 10 * state.done / state.layers.max(1) > before {
            let _ = writeln!(
                std::io::stderr(),
                "{place} {} in {}",
                event.layer,
                units::seconds(event.elapsed_secs)
            );
        }
    }

    fn end(&self) {
        if let Some(bar) = self.state().bar.take() {
            bar.finish_and_clear();
        }
    }

    fn warn(&self, message: &str) {
        let state = self.state();
        let line = format!("warning: {message}");
        match &state.bar {
            Some(bar) => bar.println(line),
            None => {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
        }
    }
}
