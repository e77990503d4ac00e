//! Training: that it learns, that it can be interrupted, that it refuses what it cannot use.

use tempfile::TempDir;
use twin_models::language::{CheckpointError, LoraConfig, TrainError, Trainer, TrainerConfig, TrainingExample};

use crate::tiny;

fn config(dropout: f32) -> TrainerConfig {
    let lora = LoraConfig { rank: 8, alpha: 16.0, dropout, ..LoraConfig::default() };
    TrainerConfig { lora, seed: 7, ..TrainerConfig::default() }
}

fn step(trainer: &mut Trainer, examples: &[TrainingExample], learning_rate: f32) -> f64 {
    let loss = trainer.accumulate(examples).unwrap();
    trainer.apply(learning_rate, Some(1.0), loss.target_tokens).unwrap();
    loss.mean()
}

#[test]
fn a_few_samples_are_learned_by_heart() {
    let mut trainer = Trainer::new(tiny::model(), config(0.0)).unwrap();
    let examples: Vec<_> = (0..4).map(|seed| tiny::example(24, seed)).collect();
    let first = step(&mut trainer, &examples, 1e-2);
    // The output matrix is frozen and its rows are short, so even a state that points straight at its token leaves a loss of
    // about log(1 + 259·e^0.4 / e^4.9) = 1.3: a quarter of the first one is by heart.
    let mut last = first;
    for _ in 0..1500 {
        last = step(&mut trainer, &examples, 1e-2);
        if last < 0.3 * first {
            break;
        }
    }
    assert!(last < 0.3 * first, "the loss went from {first} to {last} only");
}

#[test]
fn evaluation_and_training_agree_on_the_loss() {
    let model = tiny::model();
    let mut trainer = Trainer::new(model.clone(), config(0.0)).unwrap();
    let examples = [tiny::example(30, 1), tiny::example(20, 2)];
    step(&mut trainer, &examples, 1e-2);
    let nll: f64 = model.nll_batch(Some(trainer.adapter()), &examples).unwrap().iter().map(|nll| nll.nats).sum();
    let loss = trainer.accumulate(&examples).unwrap();
    assert!((loss.nll_sum - nll).abs() < 1e-3, "{} is not {nll}", loss.nll_sum);
}

#[test]
fn a_continued_run_ends_in_the_same_bits() {
    let (folder, model) = (TempDir::new().unwrap(), tiny::model());
    let path = folder.path().join("checkpoint.safetensors");
    let examples: Vec<_> = (0..3).map(|seed| tiny::example(24, seed)).collect();
    let run = |trainer: &mut Trainer, steps| {
        (0..steps).for_each(|_| {
            step(trainer, &examples, 1e-2);
        })
    };

    let mut whole = Trainer::new(model.clone(), config(0.1)).unwrap();
    run(&mut whole, 3);
    whole.save_checkpoint(&path).unwrap();
    run(&mut whole, 3);
    let mut continued = Trainer::resume(model, config(0.1), &path).unwrap();
    assert_eq!(continued.step(), 3);
    run(&mut continued, 3);

    let bytes = |trainer: &Trainer, name: &str| {
        let directory = folder.path().join(name);
        trainer.adapter().save(&directory, "tiny").unwrap();
        std::fs::read(directory.join("adapter_model.safetensors")).unwrap()
    };
    assert_eq!(bytes(&whole, "whole"), bytes(&continued, "continued"));
}

#[test]
fn a_checkpoint_of_something_else_is_refused() {
    let (folder, model) = (TempDir::new().unwrap(), tiny::model());
    let path = folder.path().join("checkpoint.safetensors");
    let mut trainer = Trainer::new(model.clone(), config(0.0)).unwrap();
    trainer.accumulate(&[tiny::example(8, 1)]).unwrap();
    assert!(matches!(trainer.save_checkpoint(&path), Err(CheckpointError::PendingGradients)));
    trainer.apply(1e-3, None, 4).unwrap();
    trainer.save_checkpoint(&path).unwrap();

    let other = TrainerConfig { seed: 8, ..config(0.0) };
    let error = Trainer::resume(model.clone(), other, &path).err().unwrap();
    assert!(error.to_string().contains("`seed` is 7"), "{error}");
    assert!(matches!(Trainer::resume(model.clone(), config(0.5), &path), Err(CheckpointError::Mismatch { .. })));

    let bytes = std::fs::read(&path).unwrap();
    for end in (0..bytes.len()).step_by(997) {
        std::fs::write(&path, &bytes[..end]).unwrap();
        assert!(Trainer::resume(model.clone(), config(0.0), &path).is_err(), "{end} bytes");
    }
}

#[test]
fn malformed_examples_are_refused_before_anything_is_added() {
    let mut trainer = Trainer::new(tiny::model(), config(0.0)).unwrap();
    let mut refuse = |example| trainer.accumulate(&[tiny::example(8, 1), example]).unwrap_err();
    let short_mask = TrainingExample::new(vec![1, 2], vec![true]);
    assert!(matches!(refuse(short_mask), TrainError::MaskLength { tokens: 2, mask: 1 }));
    assert!(matches!(refuse(tiny::example(tiny::CONTEXT + 1, 1)), TrainError::TooLong { .. }));
    let unknown = TrainingExample::new(vec![1, 900], vec![true; 2]);
    assert!(matches!(refuse(unknown), TrainError::UnknownToken { token: 900, .. }));
    assert!(matches!(trainer.apply(1e-3, None, 0), Err(TrainError::NoTargets)));
    assert_eq!(trainer.step(), 0);
}

#[test]
fn a_negative_weight_pushes_away() {
    let model = tiny::model();
    let mut trainer = Trainer::new(model.clone(), config(0.0)).unwrap();
    let (liked, mut disliked) = (tiny::example(16, 1), tiny::example(16, 2));
    disliked.weight = -1.0;
    let nll = |trainer: &Trainer, example: &TrainingExample| {
        model.nll(Some(trainer.adapter()), &example.token_ids, &example.loss_mask).unwrap().nats
    };
    let before = (nll(&trainer, &liked), nll(&trainer, &disliked));
    for _ in 0..10 {
        step(&mut trainer, &[liked.clone(), disliked.clone()], 5e-3);
    }
    assert!(nll(&trainer, &liked) < before.0 && nll(&trainer, &disliked) > before.1);
}
