//! What a run makes smaller: the surprise at the author's words, or the loss of preference pairs.

use twin_domain::CancelFlag;
use twin_models::language::{
    Adapter, Llama, PairStanding, PreferenceLoss, StepLoss, TrainError, Trainer, TrainingExample,
};

use super::pairs::{PreferenceConfig, PreferenceReport, Prepared, Standing, exported};
use super::{Job, RunError};

/// The examples of a run with the loss that is taken over them.
pub(super) enum Objective {
    Likelihood { train: Vec<TrainingExample>, calibration: Vec<TrainingExample> },
    Preference { train: Vec<Prepared>, calibration: Vec<Prepared>, test: Vec<Prepared>, config: PreferenceConfig },
}

/// The gradient of a batch has been gathered.
pub(super) struct Taken {
    /// The mean over tokens or pairs.
    pub(super) loss: f64,
    /// What the gradient is to be divided by.
    pub(super) parts: usize,
    pub(super) target_tokens: usize,
}

/// How the calibration examples are predicted.
#[derive(Default)]
pub(super) struct Look {
    pub(super) loss: f64,
    pub(super) margin: Option<f64>,
    pub(super) nll: Option<f64>,
}

impl Objective {
    /// How many tokens each training example costs.
    pub(super) fn lengths(&self) -> Vec<usize> {
        match self {
            Self::Likelihood { train, .. } => train.iter().map(|example| example.token_ids.len()).collect(),
            Self::Preference { train, .. } => train.iter().map(|prepared| prepared.tokens.tokens()).collect(),
        }
    }

    /// How many examples there are to train on and to calibrate with.
    pub(super) fn sizes(&self) -> (usize, usize) {
        match self {
            Self::Likelihood { train, calibration } => (train.len(), calibration.len()),
            Self::Preference { train, calibration, .. } => (train.len(), calibration.len()),
        }
    }

    /// Gathers the gradient of a batch.
    pub(super) fn accumulate(&self, trainer: &mut Trainer, batch: &[usize]) -> Result<Taken, TrainError> {
        match self {
            Self::Likelihood { train, .. } => {
                let examples: Vec<_> = batch.iter().map(|index| train[*index].clone()).collect();
                let StepLoss { nll_sum, target_tokens } = trainer.accumulate(&examples)?;
                Ok(Taken { loss: nll_sum / target_tokens.max(1) as f64, parts: target_tokens, target_tokens })
            }
            Self::Preference { train, config, .. } => {
                let pairs: Vec<_> = batch.iter().map(|index| train[*index].tokens.clone()).collect();
                let standings = trainer.accumulate_pairs(&pairs, config.loss())?;
                let targets = pairs.iter().map(|pair| pair.chosen.target_tokens() + pair.rejected.target_tokens());
                let mean = standings.iter().map(|standing| standing.loss).sum::<f64>() / pairs.len().max(1) as f64;
                Ok(Taken { loss: mean, parts: pairs.len(), target_tokens: targets.sum() })
            }
        }
    }

    /// Measures the calibration examples. `None` when the flag was set.
    pub(super) fn look(
        &self,
        model: &Llama,
        adapter: &Adapter,
        cancel: &CancelFlag,
    ) -> Result<Option<Look>, TrainError> {
        match self {
            Self::Likelihood { calibration, .. } => nats_a_token(calibration, model, adapter, cancel),
            Self::Preference { calibration, config, .. } => {
                let Some(standings) = standings(calibration, config.loss(), model, Some(adapter), cancel)? else {
                    return Ok(None);
                };
                let mean = |of: fn(&PairStanding) -> f64| {
                    standings.iter().map(of).sum::<f64>() / standings.len().max(1) as f64
                };
                let (margin, nll) = (Some(mean(|s| s.margin)), Some(mean(|s| s.chosen_nll)));
                Ok(Some(Look { loss: mean(|s| s.loss), margin, nll }))
            }
        }
    }

    /// How held-out pairs stand before and after; nothing for other methods. `None` when the flag was set.
    pub(super) fn report(
        &self,
        job: &Job<'_>,
        adapter: &Adapter,
        cancel: &CancelFlag,
    ) -> Result<Option<Option<PreferenceReport>>, RunError> {
        let Self::Preference { train, test, config, .. } = self else { return Ok(Some(None)) };
        let start = job.start.map(|start| &*start.adapter);
        let before = standings(test, config.loss(), job.model, start, cancel)?;
        let after = standings(test, config.loss(), job.model, Some(adapter), cancel)?;
        Ok(before.zip(after).map(|(before, after)| {
            let edits = train.iter().filter(|prepared| prepared.is_edit()).count();
            Some(PreferenceReport {
                config: config.clone(),
                train_pairs: train.len(),
                edits,
                held_out_pairs: test.len(),
                before: Standing::of(&before),
                after: Standing::of(&after),
            })
        }))
    }

    /// Files to keep with the adapter, by name.
    pub(super) fn exported(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Likelihood { .. } => Vec::new(),
            Self::Preference { train, calibration, test, .. } => {
                vec![("preferences.jsonl", exported(train.iter().chain(calibration).chain(test)))]
            }
        }
    }
}

fn nats_a_token(
    examples: &[TrainingExample],
    model: &Llama,
    adapter: &Adapter,
    cancel: &CancelFlag,
) -> Result<Option<Look>, TrainError> {
    let (mut nats, mut tokens) = (0.0, 0);
    // A few at a time, so that Ctrl-C does not have to wait for all.
    for part in examples.chunks(8) {
        if cancel.is_cancelled() {
            return Ok(None);
        }
        for nll in model.nll_batch(Some(adapter), part)? {
            nats += nll.nats;
            tokens += nll.tokens;
        }
    }
    Ok(Some(Look { loss: nats / tokens.max(1) as f64, ..Look::default() }))
}

fn standings(
    pairs: &[Prepared],
    loss: PreferenceLoss,
    model: &Llama,
    adapter: Option<&Adapter>,
    cancel: &CancelFlag,
) -> Result<Option<Vec<PairStanding>>, TrainError> {
    let mut standings = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().map(|prepared| &prepared.tokens) {
        if cancel.is_cancelled() {
            return Ok(None);
        }
        let nlls = model.nll_batch(adapter, &[pair.chosen.clone(), pair.rejected.clone()])?;
        standings.push(loss.standing(pair, nlls[0].nats, nlls[1].nats));
    }
    Ok(Some(standings))
}
