//! The steps between which a process may die.

use std::fmt;
use std::sync::Arc;

/// Is told the name of each durable step that was just taken, such as `register.renamed`.
pub type StepObserver = Arc<dyn Fn(&str) + Send + Sync>;

/// Who is told of steps; nobody, as a rule. Tests end the process there and look at what is left.
#[derive(Clone, Default)]
pub(crate) struct Steps(pub(crate) Option<StepObserver>);

impl Steps {
    pub(crate) fn taken(&self, step: &str) {
        if let Some(observer) = &self.0 {
            observer(step);
        }
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Steps(observed)" } else { "Steps" })
    }
}
