//! Runs from their beginning to their artefacts, on a tiny model of random weights.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;
use twin_domain::progress::Silent;
use twin_domain::{
    AuthorId, BaseModel, CancelFlag, ChatMessage, Digest, DocumentId, Example, FeatureViewId, ModelVersionId, Progress,
    ProgressUpdate, PromptVersion, Split, Task, TrainingSet, TrainingSetId,
};
use twin_models::language::{Adapter, DecodePrecision, Llama, LoadOptions};

use super::*;

fn model() -> Arc<Llama> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../twin-models/tests/language/families/qwen2");
    let options =
        LoadOptions { name: "tiny".into(), threads: Some(1), decode: DecodePrecision::F32, ..LoadOptions::default() };
    Arc::new(Llama::load(&folder, options).unwrap())
}

fn base() -> BaseModel {
    BaseModel { name: "tiny".into(), hub: "tiny".into(), digest: Digest::of("tiny") }
}

fn set() -> TrainingSet {
    let content = Digest::of("set");
    TrainingSet {
        id: TrainingSetId::new(&content),
        content,
        author: AuthorId::parse("ada").unwrap(),
        feature_view: FeatureViewId::parse("features-0123456789ab").unwrap(),
        prompt: PromptVersion("twin-1".into()),
        recipe: "test".into(),
        documents: vec![],
        counts: Default::default(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn examples() -> Vec<Example> {
    let texts = ["the sea is wide and the sky is wider", "a small boat goes out at dawn", "nobody asked the gulls"];
    let splits = [Split::Train, Split::Train, Split::Train, Split::Calibration, Split::Test];
    let example = |(index, split): (usize, &Split)| Example {
        split: *split,
        task: Task::WritePost,
        document: DocumentId::new(&AuthorId::parse("ada").unwrap(), &format!("https://ada.example/{index}")),
        prompt: vec![ChatMessage::user(format!("Write {index}."))],
        target: texts[index % texts.len()].into(),
        complete: true,
        not_voice: vec![],
    };
    splits.iter().enumerate().map(example).collect()
}

fn config() -> TrainingConfig {
    TrainingConfig {
        rank: 4,
        alpha: 8.0,
        batch_tokens: 60,
        max_steps: 8,
        validate_every: 2,
        epochs: 20.0,
        learning_rate: 5e-3,
        ..TrainingConfig::default()
    }
}

struct Bench {
    model: Arc<Llama>,
    base: BaseModel,
    set: TrainingSet,
    config: TrainingConfig,
    runs: TempDir,
}

impl Bench {
    fn new(config: TrainingConfig) -> Self {
        Self { model: model(), base: base(), set: set(), config, runs: TempDir::new().unwrap() }
    }

    fn job<'a>(&'a self, start: Option<&'a Start>) -> Job<'a> {
        let Self { model, base, set, config, runs } = self;
        Job { model, base, set, config, start, runs: runs.path() }
    }

    fn start(&self, run: &FinishedRun) -> Start {
        let adapter = Arc::new(Adapter::load(&run.artefacts(), &self.model).unwrap());
        let id = ModelVersionId { author: AuthorId::parse("ada").unwrap(), number: 1 };
        Start { parent: Parent { id, content: Digest::of("v1") }, adapter }
    }
}

/// Sets a flag once so many steps of a stage were told of.
struct StopAt {
    stage: &'static str,
    after: u64,
    cancel: CancelFlag,
    told: AtomicUsize,
}

impl Progress for StopAt {
    fn update(&self, update: ProgressUpdate<'_>) {
        self.told.fetch_add(1, Ordering::Relaxed);
        if update.stage == self.stage && update.done >= self.after {
            self.cancel.cancel();
        }
    }
}

fn weights(run: &FinishedRun) -> Vec<u8> {
    std::fs::read(run.artefacts().join("adapter_model.safetensors")).unwrap()
}

#[test]
fn a_run_that_was_stopped_ends_like_one_that_was_not() {
    let (whole, stopped, examples) = (Bench::new(config()), Bench::new(config()), examples());
    let material = Material::Examples(&examples);
    let expected = train(&whole.job(None), &material, &Silent, &CancelFlag::new()).unwrap();
    assert!(expected.report.calibration_loss < expected.report.calibration_loss_before);

    let cancel = CancelFlag::new();
    let stop = StopAt { stage: "training", after: 3, cancel: cancel.clone(), told: AtomicUsize::new(0) };
    let error = train(&stopped.job(None), &material, &stop, &cancel).unwrap_err();
    assert!(matches!(error, RunError::Cancelled { step: 3 }), "{error}");
    let listed = runs(stopped.runs.path()).unwrap();
    assert_eq!((listed.len(), listed[0].steps, listed[0].report.is_none()), (1, 3, true));
    let manifest = listed[0].manifest.as_ref().unwrap();
    assert_eq!((manifest.method, &manifest.config, &manifest.training_set), (Method::Sft, &config(), &set().id));

    let resumed = train(&stopped.job(None), &material, &Silent, &CancelFlag::new()).unwrap();
    assert_eq!(weights(&resumed), weights(&expected));
    let again = train(&stopped.job(None), &material, &Silent, &CancelFlag::new()).unwrap();
    assert!(again.recognised);
    assert_eq!(run(stopped.runs.path(), &listed[0].name[4..9]).unwrap().steps, resumed.report.steps);
}

#[test]
fn preferences_raise_the_margin_and_go_on_after_a_stop() {
    let bench = Bench::new(config());
    let examples = examples();
    let sft = train(&bench.job(None), &Material::Examples(&examples), &Silent, &CancelFlag::new()).unwrap();
    let start = bench.start(&sft);
    let bench = Bench { config: TrainingConfig { learning_rate: 3e-3, dropout: 0.0, ..config() }, ..bench };
    let preference = PreferenceConfig { pairs: 3, held_out: 1, answer_tokens: 24, ..PreferenceConfig::default() };
    let edit = Pair {
        split: Split::Train,
        source: PairSource::Edit,
        prompt: vec![ChatMessage::user("Write a line.")],
        chosen: "a line of mine".into(),
        rejected: "as a language model".into(),
        complete: (true, true),
        not_voice: vec![],
    };
    let edits = [edit];
    let material = Material::Preferences { examples: &examples, edits: &edits, config: &preference };

    let cancel = CancelFlag::new();
    let stop = StopAt { stage: "answering", after: 2, cancel: cancel.clone(), told: AtomicUsize::new(0) };
    let error = train(&bench.job(Some(&start)), &material, &stop, &cancel).unwrap_err();
    assert!(matches!(error, RunError::Cancelled { step: 0 }), "{error}");

    let dpo = train(&bench.job(Some(&start)), &material, &Silent, &CancelFlag::new()).unwrap();
    let report = dpo.report.preference.clone().unwrap();
    assert_eq!((report.train_pairs, report.edits, report.held_out_pairs), (3, 1, 1));
    assert!(report.before.margin.abs() < 1e-3, "at the start the margin is 0: {}", report.before.margin);
    assert_eq!(dpo.report.parent, Some(start.parent.clone()));
    let looks = runs(bench.runs.path()).unwrap();
    let run = looks.iter().find(|run| run.manifest.as_ref().unwrap().method == Method::Dpo).unwrap();
    let margins: Vec<f64> = run.curve.validation.iter().map(|look| look.margin.unwrap()).collect();
    assert!(margins.last().unwrap() > &margins[0], "{margins:?}");

    let text = std::fs::read_to_string(dpo.artefacts().join("preferences.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 5, "three to train on, one to calibrate, one held out");
    assert!(text.lines().next().unwrap().contains("a line of mine"), "edits come first");
}

#[test]
fn more_than_the_model_can_take_is_refused_with_what_to_do() {
    for (wrong, said) in [
        (TrainingConfig { rank: 0, ..config() }, "rank is 0"),
        (TrainingConfig { rank: 4096, ..config() }, "rank is 4096"),
        (TrainingConfig { rank: 4, learning_rate: 1e30, ..config() }, "lower the learning rate"),
        (TrainingConfig { learning_rate: f64::NAN, ..config() }, "`learning_rate` is NaN, and must be above 0"),
        (TrainingConfig { batch_tokens: 0, ..config() }, "`batch_tokens` is 0, and must be 1 or more"),
        (TrainingConfig { dropout: 1.0, ..config() }, "`dropout` is 1, and must be from 0 to below 1"),
    ] {
        let (bench, examples) = (Bench::new(wrong), examples());
        let error = train(&bench.job(None), &Material::Examples(&examples), &Silent, &CancelFlag::new()).unwrap_err();
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        assert!(text.contains(said), "{text}");
    }
}
