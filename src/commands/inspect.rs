use super::CommandError;
use super::weights::{self, Element, decompose_error};
use crate::checkpoint::{Checkpoint, ModuleRecord, Source};
use crate::decompose::{Factor, Scheme, Unfolding, weight_spectrum};
use crate::linalg::{self, Spectrum};
use crate::plan::{
    Catalog, CatalogEntry, ConvScheme, Job, LayerEvent, Limits, Pattern, PlanError, Progress, Stage,
    read_spectrum, run_jobs,
};
use crate::report::{InspectReport, InspectedLayer, LayerSpectrum, RankPreview};
use std::collections::BTreeMap;
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
            limits: Limits::default(),
        }
    }
}

/// A layer that is looked into: a dense weight, or the factors that stand for one.
struct Subject<'a> {
    layer: String,
    entry: Option<&'a CatalogEntry>,
    module: Option<&'a ModuleRecord>,
    unfolding: Unfolding,
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
    let spectra = if options.spectra {
        spectra(&checkpoint, &subjects, options.limits, progress)?
    } else {
        subjects.iter().map(|_| None).collect()
    };
    let layers = subjects
        .iter()
        .zip(spectra)
        .map(|(subject, spectrum)| describe(subject, spectrum.as_ref(), options.rank));
    let layers: Vec<InspectedLayer> = layers.collect();
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
    let none = BTreeMap::new();
    let modules = checkpoint.record().map_or(&none, |record| &record.modules);
    let part_of_module = |layer: &str| {
        layer
            .rsplit_once('.')
            .is_some_and(|(head, index)| index.parse::<usize>().is_ok() && modules.contains_key(head))
    };
    let mut subjects = Vec::new();
    for entry in catalog.entries().filter(|entry| entry.is_candidate() && entry.elements() > 0) {
        let Some(layout) = entry.kind.layout().filter(|_| !part_of_module(&entry.layer)) else { continue };
        let scheme = match (layout.is_convolution(), options.conv_scheme) {
            (false, _) => Scheme::Matrix,
            (true, ConvScheme::Spatial) => Scheme::Spatial,
            (true, ConvScheme::Channel) => Scheme::Channel,
        };
        let unfolding = Unfolding::new(layout, scheme, &entry.shape, entry.groups)
            .map_err(decompose_error(&entry.name))?;
        subjects.push(Subject { layer: entry.layer.clone(), entry: Some(entry), module: None, unfolding });
    }
    if let Some(record) = checkpoint.record() {
        for (name, module) in &record.modules {
            let unfolding = weights::unfolding(name, module)?;
            subjects.push(Subject { layer: name.clone(), entry: None, module: Some(module), unfolding });
        }
    }
    subjects.sort_by(|a, b| crate::checkpoint::natural_order(&a.layer, &b.layer));
    for pattern in &options.targets {
        if !subjects.iter().any(|subject| matches(pattern, subject)) {
            let names = subjects.iter().map(|subject| subject.layer.as_str());
            let problem = match crate::plan::nearest(pattern.text(), names) {
                Some(name) => format!("`{pattern}` matches no layer; the nearest is `{name}`"),
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
            let (rows, cols) = (subject.unfolding.rows(), subject.unfolding.cols());
            let small = rows.min(cols) as u64;
            let work = subject.unfolding.groups() as u64 * small * small * rows.max(cols) as u64;
            let memory_bytes =
                2 * (subject.unfolding.parameters() * 8) as u64 + linalg::spectrum_bytes(rows, cols, 4);
            Job { item: (subject, work), work, memory_bytes }
        })
        .collect();
    progress.begin(Stage::Spectra, jobs.len(), jobs.iter().map(|job| job.work).sum());
    let spectra = run_jobs(&jobs, limits, |&(subject, work)| {
        progress.started(&subject.layer);
        let start = Instant::now();
        let spectrum = match (subject.entry, subject.module) {
            (Some(entry), _) => read_spectrum(checkpoint, entry, &subject.unfolding, None)?,
            (None, Some(module)) if weights::is_wide(module) => {
                product_spectrum::<f64>(checkpoint, subject, module)?
            }
            (None, Some(module)) => product_spectrum::<f32>(checkpoint, subject, module)?,
            (None, None) => return Ok(None),
        };
        progress.finished(&LayerEvent::new(&subject.layer, start.elapsed().as_secs_f64()), work);
        Ok::<_, CommandError>(Some(spectrum))
    });
    progress.end();
    spectra
}

/// The singular values of what a module's factors multiply out to.
fn product_spectrum<T: Element>(
    checkpoint: &Checkpoint,
    subject: &Subject<'_>,
    module: &ModuleRecord,
) -> Result<Spectrum, CommandError> {
    let chain: Vec<Factor<T>> = weights::read_chain(checkpoint, &subject.layer, module, &subject.unfolding)?;
    let fail = |source| CommandError::Decompose { tensor: subject.layer.clone(), source };
    let weight = subject.unfolding.collapse(&chain, 1).map_err(fail)?;
    weight_spectrum(&weight, &subject.unfolding, 1).map_err(fail)
}

fn describe(subject: &Subject<'_>, spectrum: Option<&Spectrum>, rank: Option<usize>) -> InspectedLayer {
    let unfolding = &subject.unfolding;
    let preview = rank.map(|rank| rank.min(unfolding.max_rank())).map(|rank| RankPreview {
        rank,
        parameters: (rank * unfolding.parameters_per_rank()) as u64,
        smaller: rank <= unfolding.break_even_rank(),
        multiply_adds: (rank * unfolding.multiply_adds_per_rank(1)) as u64,
        relative_error: spectrum.map(|spectrum| spectrum.relative_error(rank)),
    });
    let stored = match subject.module {
        Some(module) => unfolding.factored_parameters(module.rank),
        None => unfolding.parameters(),
    };
    InspectedLayer {
        layer: subject.layer.clone(),
        kind: subject.entry.map_or_else(|| unfolding.layout().name(), |entry| entry.kind.name()),
        shape: unfolding.shape().to_vec(),
        dtype: match (subject.entry, subject.module) {
            (Some(entry), _) => entry.dtype.to_owned(),
            (None, module) => module.map(|module| module.dtype.clone()).unwrap_or_default(),
        },
        scheme: unfolding.scheme().name(),
        groups: unfolding.groups(),
        parameters: stored as u64,
        dense_parameters: unfolding.parameters() as u64,
        max_rank: unfolding.max_rank(),
        break_even_rank: unfolding.break_even_rank(),
        spectrum: spectrum.map(LayerSpectrum::new),
        preview,
        factored_rank: subject.module.map(|module| module.rank),
        relative_error: subject.module.map(|module| module.relative_error),
        tied_with: match (subject.entry, subject.module) {
            (Some(entry), _) => entry.tied_with.clone(),
            (None, module) => module.map(|module| module.tied_with.clone()).unwrap_or_default(),
        },
        excluded: subject.entry.and_then(|entry| Some(entry.exclusion.as_ref()?.to_string())),
    }
}
