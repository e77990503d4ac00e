//! Whether a run fits into memory, asked before it starts: a machine that swaps, or a process that is killed after an hour,
//! is worse than a refusal.

use twin_models::language::{Llama, TrainerConfig, training_memory};

use super::{Job, RunError};

/// What a run needs besides the model that is loaded already, in bytes.
pub(super) fn needed(model: &Llama, config: &TrainerConfig, longest: usize) -> Result<u64, RunError> {
    Ok(training_memory(model, config, longest)?)
}

/// Refuses a run that needs more than there is. Where nobody can say how much there is, it is tried.
pub(super) fn check(job: &Job<'_>, longest: usize) -> Result<u64, RunError> {
    let config = job.config.trainer(job.start.map(|start| start.adapter.config()));
    let needed = needed(job.model, &config, longest)?;
    match available() {
        Some(available) if needed > available => {
            let (needed, available) = (megabytes(needed), megabytes(available));
            Err(RunError::Memory { needed, available, rank: job.config.rank })
        }
        _ => Ok(needed),
    }
}

pub(super) fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// What the system would give a process without taking it from others, within the limit of the control group.
fn available() -> Option<u64> {
    let free = meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let group = number("/sys/fs/cgroup/memory.max").zip(number("/sys/fs/cgroup/memory.current"));
    Some(group.map_or(free, |(most, used)| free.min(most.saturating_sub(used))))
}

fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_understood() {
        let text = "MemTotal:       24617160 kB\nMemFree:         1000 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(meminfo(text), Some(2 << 20));
        assert_eq!(meminfo("MemAvailable: many kB"), None);
    }
}
