//! What cases ask for and the engine has not got yet, by its own word.

use std::fmt;

/// How the engine refuses it. A case that is refused so waits for it, and does not fail.
const MISSING: [&str; 1] = ["there is no operator `windows`"];

/// How many cases wait for each.
#[derive(Default)]
pub(crate) struct Missing([usize; MISSING.len()]);

impl Missing {
    /// Whether this is what became of a case because something is missing.
    pub(crate) fn explains(&mut self, problem: &str) -> bool {
        let found = MISSING.iter().position(|missing| problem.contains(missing));
        if let Some(index) = found {
            self.0[index] += 1;
        }
        found.is_some()
    }

    /// Fails if something is on the list that nothing waits for any more.
    pub(crate) fn assert_all_needed(&self) {
        for (missing, cases) in MISSING.iter().zip(self.0) {
            assert!(cases > 0, "it is there, take it off the list: {missing}");
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of them wait for what is missing", self.0.iter().sum::<usize>())
    }
}
