use std::fmt::Write as _;

/// A checkpoint that does not hold what an architecture needs.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the checkpoint does not hold {architecture}{}", list(problems, unexpected))]
pub struct BuildError {
    /// What was to be built.
    pub architecture: String,
    /// What is missing, or differs.
    pub problems: Vec<String>,
    /// Tensors that nothing uses.
    pub unexpected: Vec<String>,
}

fn list(problems: &[String], unexpected: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = String::new();
    for (title, items) in [("", problems), ("unexpected ", unexpected)] {
        for item in items.iter().take(SHOWN) {
            let _ = write!(text, "\n  {title}{item}");
        }
        if items.len() > SHOWN {
            let _ = write!(text, "\n  and {} more", items.len() - SHOWN);
        }
    }
    text
}
