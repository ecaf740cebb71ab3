//! Which of a layer's formats loses least, where what they lose is only bounded or estimated: those that may are tried.

use super::build::PlanOptions;
use super::draft::Draft;
use super::error::PlanError;
use super::forms::{self, Ranked};
use super::progress::{LayerEvent, Progress, Stage};
use super::recipe::Recipe;
use super::schedule::{Job, run_jobs};
use super::spectra::{computed_bytes, read};
use crate::checkpoint::Checkpoint;
use crate::decompose::{Certainty, Foreseen, Format, FormatOptions, Ranks};
use crate::linalg::SvdOptions;
use std::time::Instant;

/// Where formats are compared, gives every layer the one that loses least at what its ranks cost so far.
pub(super) fn choose(
    checkpoint: &Checkpoint,
    drafts: &mut [Draft],
    recipe: &Recipe,
    options: &PlanOptions,
    progress: &dyn Progress,
) -> Result<(), PlanError> {
    for draft in drafts.iter_mut() {
        let Some((form, ranks)) = draft.chosen else { continue };
        draft.ranked = if draft.forms.len() > 1 {
            forms::compared(draft.comparison(form, ranks, recipe))
        } else {
            let foreseen = draft.forms[form].curve.as_ref().and_then(|curve| curve.foreseen(&ranks));
            let unknown = options.exact_errors.then(Foreseen::unknown);
            foreseen.or(unknown).map(|foreseen| Ranked { form, ranks, foreseen }).into_iter().collect()
        };
    }
    let open: Vec<usize> =
        (0..drafts.len()).filter(|&i| next(&drafts[i].ranked, options.exact_errors).is_some()).collect();
    let jobs: Vec<Job<&Draft>> = open.iter().map(|&i| job(&drafts[i])).collect();
    if !jobs.is_empty() {
        progress.begin(Stage::Comparing, jobs.len(), jobs.iter().map(|job| job.work).sum());
        let tried = run_jobs(&jobs, options.limits, |draft| {
            progress.started(&draft.entry.layer);
            let start = Instant::now();
            let ranked = tried(checkpoint, draft, recipe, options.exact_errors)?;
            let event = LayerEvent::new(&draft.entry.layer, start.elapsed().as_secs_f64());
            progress.finished(&event, job(draft).work);
            Ok::<_, PlanError>(ranked)
        });
        progress.end();
        for (i, ranked) in open.into_iter().zip(tried?) {
            drafts[i].ranked = ranked;
        }
    }
    for draft in drafts {
        draft.chosen = draft.ranked.first().map(|best| (best.form, best.ranks)).or(draft.chosen);
    }
    Ok(())
}

/// What trying a layer's formats takes at most.
fn job(draft: &Draft) -> Job<&Draft> {
    let item = computed_bytes(draft.entry.dtype);
    let tensors = || draft.ranked.iter().map(|ranked| (&draft.forms[ranked.form].format, ranked.ranks));
    let working =
        |(format, ranks): (&Format, Ranks)| format.working_bytes(&ranks, item, &SvdOptions::default());
    let memory_bytes = draft.entry.elements() * item as u64 + tensors().map(working).max().unwrap_or(0);
    Job { item: draft, work: tensors().map(|(format, _)| format.work()).sum(), memory_bytes }
}

/// The format to try next: of those that may turn out to be the best, bounds before estimates, which take longer.
fn next(ranked: &[Ranked], exact_errors: bool) -> Option<usize> {
    let best = ranked.first()?.foreseen.error_squared;
    let open = |&index: &usize| ranked[index].foreseen.certainty != Certainty::Exact;
    let rivals: Vec<usize> =
        (0..ranked.len()).filter(|&index| ranked[index].foreseen.at_least_squared <= best).collect();
    if rivals.len() < 2 {
        return rivals.into_iter().find(|index| exact_errors && open(index));
    }
    let takes_long = |&index: &usize| ranked[index].foreseen.certainty == Certainty::Estimated;
    rivals.into_iter().filter(open).min_by_key(takes_long)
}

/// Finds the factors of formats until it is clear which loses least.
fn tried(
    checkpoint: &Checkpoint,
    draft: &Draft,
    recipe: &Recipe,
    exact_errors: bool,
) -> Result<Vec<Ranked>, PlanError> {
    let mut ranked = draft.ranked.clone();
    while let Some(index) = next(&ranked, exact_errors) {
        let Ranked { form, ranks, .. } = ranked[index];
        let (format, metric) = (&draft.forms[form].format, draft.metric.as_ref());
        let options = FormatOptions { svd: SvdOptions { method: recipe.svd, threads: 1 }, seed: 0 };
        let narrow = |weight: &[f32]| Ok(format.factor(weight, &ranks, metric, &options)?.relative_error);
        let wide = |weight: &[f64]| Ok(format.factor(weight, &ranks, metric, &options)?.relative_error);
        let error = read(checkpoint, &draft.entry, narrow, wide)?;
        ranked[index].foreseen = Foreseen::exact(error * error);
        forms::sort(&mut ranked);
    }
    Ok(ranked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(form: usize, at_least: f64, error: f64, certainty: Certainty) -> Ranked {
        let foreseen = Foreseen { error_squared: error, at_least_squared: at_least, certainty };
        Ranked { form, ranks: Ranks::from(1), foreseen }
    }

    #[test]
    fn only_what_may_be_the_best_is_tried_and_bounds_first() {
        let exact = |form: usize, error: f64| ranked(form, error, error, Certainty::Exact);
        // An estimate leads, and nothing else can fall to it: it is the best whatever it turns out to be.
        let clear = [
            ranked(0, 0.1, 0.2, Certainty::Estimated),
            exact(1, 0.3),
            ranked(2, 0.25, 0.4, Certainty::AtMost),
        ];
        assert_eq!(next(&clear, false), None);
        assert_eq!(next(&clear, true), Some(0));
        // A bound may turn out below the exact leader, an estimate too: the bound takes less to try.
        let open = [
            exact(0, 0.2),
            ranked(1, 0.15, 0.3, Certainty::Estimated),
            ranked(2, 0.1, 0.4, Certainty::AtMost),
        ];
        assert_eq!(next(&open, false), Some(2));
        // It turned out worse; the estimate is still open, then nothing is.
        let tried = [exact(0, 0.2), ranked(1, 0.15, 0.3, Certainty::Estimated), exact(2, 0.35)];
        assert_eq!(next(&tried, false), Some(1));
        assert_eq!(next(&[exact(0, 0.2), exact(1, 0.3)], true), None);
        assert_eq!(next(&[], true), None);
    }
}
