//! One line of the table.

use crate::support::verdict::Verdict;

/// Its first two lines.
pub const HEAD: &str = "| fault | daemon | operations | lost | doubled | calls without result | out of order | longest delay | progress calls: answered | refused | unanswered |\n|---|---|---|---|---|---|---|---|---|---|---|";

/// What a fault did to a load.
pub struct Row {
    name: String,
    beside: bool,
    /// Whether nothing may be lost or doubled.
    exact: bool,
    verdict: Verdict,
}

impl Row {
    /// Of a fault that must not do any harm.
    pub fn exact(name: &str, beside: bool, verdict: Verdict) -> Self {
        Self {
            name: name.to_owned(),
            beside,
            exact: true,
            verdict,
        }
    }

    /// Of a fault that may do harm with or without the daemon: to be compared.
    pub fn compared(name: &str, beside: bool, verdict: Verdict) -> Self {
        Self {
            name: name.to_owned(),
            beside,
            exact: false,
            verdict,
        }
    }

    /// Prints it and returns it.
    pub fn print(self) -> Self {
        let verdict = &self.verdict;
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {:.2} s | {} | {} | {} |",
            self.name,
            if self.beside { "with" } else { "without" },
            verdict.operations,
            verdict.lost.len(),
            verdict.doubled.len(),
            verdict.unanswered.len(),
            verdict.out_of_order.len(),
            verdict.longest_delay.as_secs_f64(),
            verdict.progress.answered,
            verdict.progress.refused,
            verdict.progress.unanswered,
        );
        self
    }

    /// How many there were.
    pub fn operations(&self) -> usize {
        self.verdict.operations
    }

    /// What was done.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a promise was broken.
    pub fn is_broken(&self) -> bool {
        let harms = [
            &self.verdict.lost,
            &self.verdict.doubled,
            &self.verdict.unanswered,
        ];
        self.exact && harms.iter().any(|harm| !harm.is_empty())
    }
}
