//! Learning from preferences: direct preference optimisation (Rafailov et al. 2023, *DPO*), with the chosen answer's
//! likelihood as an anchor (Pang et al. 2024, *Iterative Reasoning Preference Optimization*).
//!
//! The gradient of a pair's loss is that of its two likelihoods, each times a factor that is known once both are: so a pair
//! costs one forward and one backward pass, as supervised examples do.

use super::training::{TrainError, Trainer, TrainingExample};

/// Two answers to one prompt, of which one is to become likelier than the other.
#[derive(Debug, Clone, PartialEq)]
pub struct PreferencePair {
    pub chosen: TrainingExample,
    pub rejected: TrainingExample,
    /// Negative log-likelihoods in nats, of the chosen and of the rejected answer, under the model that training starts from.
    /// They never change, so they are computed once.
    pub reference: (f64, f64),
}

impl PreferencePair {
    /// Tokens of both answers with their prompts.
    pub fn tokens(&self) -> usize {
        self.chosen.token_ids.len() + self.rejected.token_ids.len()
    }
}

/// The loss of a pair: `-ln σ(margin) + nll_weight · nll(chosen) / tokens(chosen)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PreferenceLoss {
    /// How far the model may go from the reference: smaller allows more. The margin is
    /// `beta · (ln π(chosen)/ref(chosen) - ln π(rejected)/ref(rejected))`.
    pub beta: f64,
    /// Without it both answers may become less likely, as long as the rejected one does so faster.
    pub nll_weight: f64,
}

/// How a pair stands.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PairStanding {
    pub loss: f64,
    /// Above 0 the chosen answer has gained on the rejected one.
    pub margin: f64,
    /// Of the chosen answer, in nats a token.
    pub chosen_nll: f64,
}

impl PreferenceLoss {
    /// How a pair stands when its answers have these negative log-likelihoods.
    pub fn standing(&self, pair: &PreferencePair, chosen: f64, rejected: f64) -> PairStanding {
        let margin = self.beta * ((pair.reference.0 - chosen) - (pair.reference.1 - rejected));
        let chosen_nll = chosen / pair.chosen.target_tokens().max(1) as f64;
        // ln(1 + e^-m) without overflow for large negative margins.
        let preference = (-margin).max(0.0) + (-margin.abs()).exp().ln_1p();
        PairStanding { loss: preference + self.nll_weight * chosen_nll, margin, chosen_nll }
    }

    /// What the gradients of the two negative log-likelihoods are multiplied by.
    fn factors(&self, pair: &PreferencePair, standing: PairStanding) -> (f32, f32) {
        let pull = self.beta / (1.0 + standing.margin.exp());
        let anchor = self.nll_weight / pair.chosen.target_tokens().max(1) as f64;
        ((pull + anchor) as f32, -pull as f32)
    }
}

impl Trainer {
    /// Adds the gradient of the pairs' summed loss to what has been gathered since the last step. [`Self::apply`] then
    /// divides by whatever it is told, which for pairs is their number.
    ///
    /// # Errors
    /// When an answer is malformed; then nothing has been added. A pair without a target in one of its answers is refused.
    pub fn accumulate_pairs(
        &mut self,
        pairs: &[PreferencePair],
        loss: PreferenceLoss,
    ) -> Result<Vec<PairStanding>, TrainError> {
        for example in pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]) {
            example.validate(self.model())?;
            if example.target_tokens() == 0 {
                return Err(TrainError::NoTargets);
            }
        }
        let mut standings = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let mut standing = PairStanding::default();
            self.gradient_of(&[&pair.chosen, &pair.rejected], &mut |nlls| {
                standing = loss.standing(pair, nlls[0], nlls[1]);
                let (chosen, rejected) = loss.factors(pair, standing);
                vec![chosen, rejected]
            });
            standings.push(standing);
        }
        Ok(standings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> PreferencePair {
        let example = |tokens| TrainingExample::new(vec![0; tokens], vec![true; tokens]);
        PreferencePair { chosen: example(5), rejected: example(3), reference: (10.0, 4.0) }
    }

    #[test]
    fn at_the_reference_the_margin_is_zero_and_the_loss_ln_2() {
        let loss = PreferenceLoss { beta: 0.1, nll_weight: 0.0 };
        let standing = loss.standing(&pair(), 10.0, 4.0);
        assert!(standing.margin.abs() < 1e-12 && (standing.loss - 2f64.ln()).abs() < 1e-12);
        let (chosen, rejected) = loss.factors(&pair(), standing);
        assert!((chosen - 0.05).abs() < 1e-7 && (rejected + 0.05).abs() < 1e-7);
    }

    #[test]
    fn extreme_margins_have_finite_losses() {
        let loss = PreferenceLoss { beta: 1.0, nll_weight: 0.5 };
        let lost = loss.standing(&pair(), 1e6, 4.0);
        assert!((lost.loss - (1e6 - 10.0) - 0.5 * 1e6 / 4.0).abs() < 1e-3, "{}", lost.loss);
        let won = loss.standing(&pair(), 10.0, 1e6);
        assert!((won.loss - 0.5 * 10.0 / 4.0).abs() < 1e-9);
        let (chosen, rejected) = loss.factors(&pair(), won);
        assert!(chosen.is_finite() && rejected.abs() < 1e-20);
    }
}
