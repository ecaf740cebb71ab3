//! What was typed for networks that are measured means.

use super::output::Failure;
use super::training_arguments::EvaluateArguments;
use super::training_meaning::refuse;
use crate::commands::{EvaluateOptions, EvaluateTextOptions, EvaluateTranslationOptions};
use crate::data::{Material, TextFormat};
use crate::layers::Execution;

/// What is measured: a network for pictures, or one for text.
pub(super) enum Evaluate {
    Images(EvaluateOptions),
    Text(EvaluateTextOptions),
    Translation(EvaluateTranslationOptions),
}

pub(super) fn evaluate_options(arguments: EvaluateArguments) -> Result<Evaluate, Failure> {
    let execution = arguments.execution.map_or(Execution::Auto, Execution::from);
    let of_text = [
        ("--window", arguments.window.is_some()),
        ("--min-spearman", arguments.min_spearman.is_some()),
        ("--max-perplexity", arguments.max_perplexity.is_some()),
    ];
    let of_translation = [
        ("--beam", arguments.beam.is_some()),
        ("--length-penalty", arguments.length_penalty.is_some()),
        ("--min-bleu", arguments.min_bleu.is_some()),
    ];
    let of_images = [
        ("--arch", arguments.arch.is_some()),
        ("--batch-size", arguments.batch_size.is_some()),
        ("--workers", arguments.workers.is_some()),
    ];
    match arguments.data {
        Material::Images(data) => {
            refuse(&of_text, "pictures")?;
            refuse(&of_translation, "pictures")?;
            let mut options = EvaluateOptions::new(arguments.checkpoint, data);
            options.architecture = arguments.arch;
            options.batch_size = arguments.batch_size.unwrap_or(options.batch_size);
            options.limit = arguments.limit;
            options.execution = execution;
            options.device = arguments.device;
            options.workers = arguments.workers;
            options.min_accuracy = arguments.min_accuracy;
            Ok(Evaluate::Images(options))
        }
        Material::Text(data) => {
            refuse(&of_images, "text")?;
            refuse(&of_translation, "text that is not translated")?;
            let [window, min_spearman, max_perplexity] = of_text;
            let min_accuracy = ("--min-accuracy", arguments.min_accuracy.is_some());
            let (others, what): (&[_], _) = match data.format {
                TextFormat::Stsb => (&[min_accuracy, window, max_perplexity], "pairs of sentences"),
                TextFormat::Text => (&[min_accuracy, min_spearman], "a text"),
                _ => (&[window, min_spearman, max_perplexity], "texts with classes"),
            };
            refuse(others, what)?;
            let mut options = EvaluateTextOptions::new(arguments.checkpoint, data);
            options.limit = arguments.limit;
            options.window = arguments.window;
            options.execution = execution;
            options.device = arguments.device;
            options.min_accuracy = arguments.min_accuracy;
            options.min_spearman = arguments.min_spearman;
            options.max_perplexity = arguments.max_perplexity;
            Ok(Evaluate::Text(options))
        }
        Material::Parallel(data) => {
            refuse(&of_images, "translations")?;
            let [window, min_spearman, _] = of_text;
            refuse(&[window, min_spearman], "translations")?;
            let mut options = EvaluateTranslationOptions::new(arguments.checkpoint, data);
            options.limit = arguments.limit;
            options.search.beams = arguments.beam.unwrap_or(options.search.beams);
            options.search.length_penalty = arguments.length_penalty.unwrap_or(options.search.length_penalty);
            options.execution = execution;
            options.device = arguments.device;
            options.min_bleu = arguments.min_bleu;
            options.max_perplexity = arguments.max_perplexity;
            Ok(Evaluate::Translation(options))
        }
    }
}
