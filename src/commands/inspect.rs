use super::CommandError;
use super::weights::{self, Element, Recorded, decompose_error};
use crate::checkpoint::{Checkpoint, ModuleRecord, Source};
use crate::decompose::{
    DecomposeError, Factor, Format, Layout, Pairs, Ranks, Scheme, Unfolding, weight_spectrum,
};
use crate::linalg::{self, Spectrum, SvdOptions};
use crate::plan::{
    Catalog, CatalogEntry, ConvScheme, Job, LayerEvent, Limits, Pattern, PlanError, Progress, Stage,
    compared_formats, read_curve, read_spectrum, run_jobs,
};
use crate::report::{FormatCurve, InspectReport, InspectedLayer, LayerSpectrum, RankPreview};
use std::collections::BTreeSet;
use std::time::Instant;

/// What [`inspect`] is to do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InspectOptions {
    /// A dense or a factored checkpoint.
    pub source: Source,
    /// Only layers that one of these matches; all without any.
    pub targets: Vec<Pattern>,
    /// A rank whose cost and loss are shown for every layer.
    pub rank: Option<usize>,
    /// How convolutions are seen as matrices.
    pub conv_scheme: ConvScheme,
    /// Whether spectra are computed; without them nothing but headers is read.
    pub spectra: bool,
    /// Whether every format is tried that a layer can have, and how tensors take outputs and inputs apart.
    pub formats: Option<Pairs>,
    /// How much of the machine is used.
    pub limits: Limits,
}

impl InspectOptions {
    /// Options for one checkpoint, with spectra of every layer.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self {
            source,
            targets: Vec::new(),
            rank: None,
            conv_scheme: ConvScheme::default(),
            spectra: true,
            formats: None,
            limits: Limits::default(),
        }
    }
}

/// A layer that is looked into: a dense weight, or the factors that stand for one.
struct Subject<'a> {
    layer: String,
    entry: Option<&'a CatalogEntry>,
    module: Option<&'a ModuleRecord>,
    /// How it would be factored, or is.
    format: Format,
    ranks: Option<Ranks>,
}

/// Says what every tensor of a checkpoint is, and of every layer what factoring it would cost and lose.
///
/// # Errors
///
/// - [`CommandError::Checkpoint`] when it cannot be read;
/// - [`CommandError::Plan`] when a target matches nothing, or a weight holds NaN or an infinity;
/// - [`CommandError::RecordMismatch`] when a factored checkpoint's record does not fit its tensors.
pub fn inspect(options: &InspectOptions, progress: &dyn Progress) -> Result<InspectReport, CommandError> {
    let checkpoint = Checkpoint::open(&options.source)?;
    let catalog = Catalog::new(&checkpoint).map_err(PlanError::from)?;
    let subjects = subjects(&checkpoint, &catalog, options)?;
    let jobs = options.formats.as_ref().map(|pairs| format_jobs(&subjects, options, pairs)).transpose()?;
    let spectra = if options.spectra {
        spectra(&checkpoint, &subjects, options.limits, progress)?
    } else {
        subjects.iter().map(|_| None).collect()
    };
    let layers = subjects
        .iter()
        .zip(spectra)
        .map(|(subject, spectrum)| describe(subject, spectrum.as_ref(), options.rank));
    let mut layers: Vec<InspectedLayer> = layers.collect();
    if let Some(jobs) = &jobs {
        let found = formats(&checkpoint, jobs, layers.len(), options, progress)?;
        for (layer, formats) in layers.iter_mut().zip(found) {
            layer.formats = formats;
        }
    }
    let entries: Vec<CatalogEntry> = catalog.entries().cloned().collect();
    Ok(InspectReport::new(
        options.source.to_string(),
        catalog.model_type().map(str::to_owned),
        checkpoint.record().cloned(),
        entries,
        layers,
    ))
}

fn subjects<'a>(
    checkpoint: &'a Checkpoint,
    catalog: &'a Catalog,
    options: &InspectOptions,
) -> Result<Vec<Subject<'a>>, CommandError> {
    let modules = checkpoint.record().into_iter().flat_map(|record| &record.modules);
    let recorded: Vec<Recorded<'a>> =
        modules.map(|(name, module)| Recorded::new(name, module)).collect::<Result<_, _>>()?;
    let factors: BTreeSet<String> =
        recorded.iter().flat_map(|module| module.format.factor_names(module.name)).collect();
    let mut subjects = Vec::new();
    for entry in catalog.entries().filter(|entry| entry.is_candidate() && entry.elements() > 0) {
        let Some(layout) = entry.kind.layout().filter(|_| !factors.contains(&entry.name)) else { continue };
        let unfolding = matrix_of(layout, options.conv_scheme, &entry.shape, entry.groups)
            .map_err(decompose_error(&entry.name))?;
        let (layer, format) = (entry.layer.clone(), unfolding.into());
        subjects.push(Subject { layer, entry: Some(entry), module: None, format, ranks: None });
    }
    for Recorded { name, module, format, ranks } in recorded {
        let (layer, ranks) = (name.to_owned(), Some(ranks));
        subjects.push(Subject { layer, entry: None, module: Some(module), format, ranks });
    }
    subjects.sort_by(|a, b| crate::checkpoint::natural_order(&a.layer, &b.layer));
    for pattern in &options.targets {
        if !subjects.iter().any(|subject| matches(pattern, subject)) {
            let names = subjects.iter().map(|subject| subject.layer.as_str());
            let problem = match crate::plan::suggestion(pattern.text(), names) {
                Some(meant) => format!("`{pattern}` matches no layer; {meant}"),
                None => format!("`{pattern}` matches no layer: the checkpoint has none that can be factored"),
            };
            return Err(PlanError::Patterns(vec![problem]).into());
        }
    }
    if !options.targets.is_empty() {
        subjects.retain(|subject| options.targets.iter().any(|pattern| matches(pattern, subject)));
    }
    Ok(subjects)
}

/// How a weight is seen as a matrix.
fn matrix_of(
    layout: Layout,
    convolutions: ConvScheme,
    shape: &[usize],
    groups: usize,
) -> Result<Unfolding, DecomposeError> {
    let scheme = if layout.is_convolution() { convolutions.into() } else { Scheme::Matrix };
    Unfolding::new(layout, scheme, shape, groups)
}

fn matches(pattern: &Pattern, subject: &Subject<'_>) -> bool {
    pattern.matches(&subject.layer) || subject.entry.is_some_and(|entry| pattern.matches(&entry.name))
}

fn spectra(
    checkpoint: &Checkpoint,
    subjects: &[Subject<'_>],
    limits: Limits,
    progress: &dyn Progress,
) -> Result<Vec<Option<Spectrum>>, CommandError> {
    let jobs: Vec<Job<(&Subject<'_>, u64)>> = subjects
        .iter()
        .map(|subject| {
            let out = subject.format.shape().first().copied().unwrap_or(1);
            let (rows, cols) = match &subject.format {
                Format::Matrix(unfolding) => (unfolding.rows(), unfolding.cols()),
                Format::Tensor(_) => (out, subject.format.parameters() / out.max(1)),
            };
            let memory_bytes =
                2 * (subject.format.parameters() * 8) as u64 + linalg::spectrum_bytes(rows, cols, 4);
            let work = subject.format.work();
            Job { item: (subject, work), work, memory_bytes }
        })
        .collect();
    progress.begin(Stage::Spectra, jobs.len(), jobs.iter().map(|job| job.work).sum());
    let spectra = run_jobs(&jobs, limits, |&(subject, work)| {
        progress.started(&subject.layer);
        let start = Instant::now();
        let spectrum = match (subject.entry, subject.format.unfolding(), subject.module) {
            (Some(entry), Some(unfolding), _) => read_spectrum(checkpoint, entry, unfolding, None)?,
            (_, _, Some(module)) if weights::is_wide(module) => {
                product_spectrum::<f64>(checkpoint, subject, module)?
            }
            (_, _, Some(module)) => product_spectrum::<f32>(checkpoint, subject, module)?,
            _ => return Ok(None),
        };
        progress.finished(&LayerEvent::new(&subject.layer, start.elapsed().as_secs_f64()), work);
        Ok::<_, CommandError>(Some(spectrum))
    });
    progress.end();
    spectra
}

type FormatJob<'a> = Job<(usize, &'a CatalogEntry, Format)>;

/// Every format that dense layers can have.
fn format_jobs<'a>(
    subjects: &[Subject<'a>],
    options: &InspectOptions,
    pairs: &Pairs,
) -> Result<Vec<FormatJob<'a>>, CommandError> {
    let mut jobs = Vec::new();
    for (index, subject) in subjects.iter().enumerate() {
        let Some(entry) = subject.entry else { continue };
        for format in compared_formats(entry, options.conv_scheme, pairs)? {
            let svd = SvdOptions::default();
            let memory_bytes = entry.elements() * 8 + format.working_bytes(&format.max_ranks(), 8, &svd);
            jobs.push(Job { work: format.work(), item: (index, entry, format), memory_bytes });
        }
    }
    if *pairs != Pairs::default() && !jobs.iter().any(|job: &FormatJob<'_>| job.item.2.pairs().is_some()) {
        let none =
            if jobs.is_empty() { "there are no dense layers" } else { "the pairs fit none of the layers" };
        return Err(CommandError::Unfit { problems: vec![none.to_owned()] });
    }
    Ok(jobs)
}

/// What dense layers lose in each of these formats.
fn formats(
    checkpoint: &Checkpoint,
    jobs: &[FormatJob<'_>],
    count: usize,
    options: &InspectOptions,
    progress: &dyn Progress,
) -> Result<Vec<Vec<FormatCurve>>, CommandError> {
    progress.begin(Stage::Spectra, jobs.len(), jobs.iter().map(|job| job.work).sum());
    let curves = run_jobs(jobs, options.limits, |(_, entry, format)| {
        progress.started(&entry.layer);
        let start = Instant::now();
        let curve = read_curve(checkpoint, entry, format, None, 1)?;
        progress.finished(&LayerEvent::new(&entry.layer, start.elapsed().as_secs_f64()), format.work());
        Ok::<_, CommandError>(FormatCurve::new(format, &curve))
    });
    progress.end();
    let mut found = vec![Vec::new(); count];
    for (job, curve) in jobs.iter().zip(curves?) {
        found[job.item.0].push(curve);
    }
    Ok(found)
}

/// The singular values of what a module's factors multiply out to.
fn product_spectrum<T: Element>(
    checkpoint: &Checkpoint,
    subject: &Subject<'_>,
    module: &ModuleRecord,
) -> Result<Spectrum, CommandError> {
    let recorded = Recorded::new(&subject.layer, module)?;
    let factors: Vec<Factor<T>> = recorded.read(checkpoint)?;
    let fail = |source| CommandError::Decompose { tensor: subject.layer.clone(), source };
    let weight = recorded.format.collapse(&factors, 1).map_err(fail)?;
    let unfolding = match &subject.format {
        Format::Matrix(unfolding) => unfolding.clone(),
        Format::Tensor(tensor) => {
            matrix_of(tensor.layout(), ConvScheme::default(), tensor.shape(), 1).map_err(fail)?
        }
    };
    weight_spectrum(&weight, &unfolding, 1).map_err(fail)
}

fn describe(subject: &Subject<'_>, spectrum: Option<&Spectrum>, rank: Option<usize>) -> InspectedLayer {
    let format = &subject.format;
    let preview = rank.map(|rank| rank.min(format.max_ranks().largest())).map(|rank| {
        let ranks = format.attainable(&format.max_ranks().map(|_, most| most.min(rank)));
        // The spectrum is a matrix's: of tensors it says nothing.
        let spectrum = spectrum.filter(|_| format.unfolding().is_some());
        RankPreview {
            rank,
            parameters: format.factored_parameters(&ranks) as u64,
            smaller: rank <= format.break_even_rank(),
            multiply_adds: format.factored_multiply_adds(&ranks, [1, 1]) as u64,
            relative_error: spectrum.map(|spectrum| spectrum.relative_error(rank)),
        }
    });
    let stored = match &subject.ranks {
        Some(ranks) => format.factored_parameters(ranks),
        None => format.parameters(),
    };
    InspectedLayer {
        layer: subject.layer.clone(),
        kind: subject.entry.map_or_else(|| format.layout().name(), |entry| entry.kind.name()),
        shape: format.shape().to_vec(),
        dtype: match (subject.entry, subject.module) {
            (Some(entry), _) => entry.dtype.to_owned(),
            (None, module) => module.map(|module| module.dtype.clone()).unwrap_or_default(),
        },
        scheme: format.scheme().name(),
        groups: format.groups(),
        parameters: stored as u64,
        dense_parameters: format.parameters() as u64,
        max_rank: format.max_ranks().largest(),
        break_even_rank: format.break_even_rank(),
        spectrum: spectrum.map(LayerSpectrum::new),
        preview,
        factored_rank: subject.ranks.map(|ranks| ranks.largest()),
        factored_ranks: subject.ranks.filter(|ranks| !ranks.is_one()),
        formats: Vec::new(),
        relative_error: subject.module.map(|module| module.relative_error),
        tied_with: match (subject.entry, subject.module) {
            (Some(entry), _) => entry.tied_with.clone(),
            (None, module) => module.map(|module| module.tied_with.clone()).unwrap_or_default(),
        },
        excluded: subject.entry.and_then(|entry| Some(entry.exclusion.as_ref()?.to_string())),
    }
}
