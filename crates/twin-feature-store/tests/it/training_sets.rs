use std::collections::BTreeMap;

use jiff::Timestamp;
use twin_domain::training_set::TrainingDocument;
use twin_domain::{
    Author, AuthorId, ChatMessage, Digest, DocumentId, Example, PromptVersion, Split, StoreError, Task, TrainingSet,
    TrainingSetId, TrainingSetStore,
};
use twin_feature_store::{EmbeddedFeatureStore, ExportFormat, InMemoryFeatureStore, export};

use crate::fixture::{self, author, view};

#[test]
fn examples_come_back_in_the_order_in_which_they_were_given() {
    each_store(|store| {
        let examples = examples(30);
        let set = set(&author("ada"), &examples, 1);
        store.put_training_set(&set, &examples).unwrap();
        store.put_training_set(&set, &examples).unwrap();
        assert_eq!(store.examples(&set.id).unwrap(), examples);
        assert_eq!(store.training_set(&set.id).unwrap(), set);
    });
}

#[test]
fn sets_are_listed_by_author_newest_first() {
    each_store(|store| {
        let sets = [("ada", 3, 10), ("ada", 4, 30), ("bob", 5, 40), ("ada", 6, 20)];
        for (name, count, at) in sets {
            let examples = examples(count);
            store.put_training_set(&set(&author(name), &examples, at), &examples).unwrap();
        }
        let listed = store.training_sets(&author("ada")).unwrap();
        assert_eq!(listed.iter().map(|set| set.created_at.as_second()).collect::<Vec<_>>(), [30, 20, 10]);
        assert!(store.training_sets(&author("cleo")).unwrap().is_empty());
    });
}

#[test]
fn a_manifest_that_does_not_fit_its_examples_is_refused() {
    each_store(|store| {
        let examples = examples(5);
        let good = set(&author("ada"), &examples, 1);
        let other = TrainingSet { content: Digest::of("other"), ..good.clone() };
        let named = TrainingSet { id: TrainingSetId::new(&Digest::of("other")), ..good.clone() };
        let counted = TrainingSet { counts: BTreeMap::new(), ..good.clone() };
        for bad in [other, named, counted] {
            assert!(matches!(store.put_training_set(&bad, &examples), Err(StoreError::Invalid { .. })), "{bad:?}");
        }
        assert!(matches!(store.put_training_set(&good, &examples[1..]), Err(StoreError::Invalid { .. })));
        assert!(matches!(store.training_set(&good.id), Err(StoreError::NotFound { .. })));
        assert!(matches!(store.examples(&good.id), Err(StoreError::NotFound { .. })));
    });
}

#[test]
fn an_id_that_is_a_path_is_no_set() {
    each_store(|store| {
        let id: TrainingSetId = serde_json::from_str("\"../authors\"").unwrap();
        assert!(matches!(store.examples(&id), Err(StoreError::NotFound { .. })));
    });
}

#[test]
fn a_set_with_an_empty_split_is_a_set() {
    each_store(|store| {
        let examples: Vec<_> = examples(9).into_iter().filter(|example| example.split == Split::Train).collect();
        let set = set(&author("ada"), &examples, 1);
        store.put_training_set(&set, &examples).unwrap();
        assert_eq!(store.examples(&set.id).unwrap(), examples);
    });
}

#[test]
fn changed_files_are_seen_and_named() {
    let directory = fixture::directory();
    let store = EmbeddedFeatureStore::open(directory.path()).unwrap();
    let examples = examples(30);
    let set = set(&author("ada"), &examples, 1);
    store.put_training_set(&set, &examples).unwrap();
    let file = directory.path().join("training-sets").join(set.id.as_str()).join("train.parquet");
    let whole = std::fs::read(&file).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 60) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&file, &bytes).unwrap();
        match store.examples(&set.id) {
            Ok(read) => assert_eq!(read, examples, "byte {at}"),
            Err(StoreError::Damaged { what, .. }) => assert!(what.contains("train.parquet") || what.contains("set-")),
            Err(other) => panic!("byte {at}: {other:?}"),
        }
        std::fs::write(&file, &whole[..at]).unwrap();
        assert!(matches!(store.examples(&set.id), Err(StoreError::Damaged { .. })), "cut at {at}");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(store.examples(&set.id), Err(StoreError::Damaged { .. })));
}

#[test]
fn what_a_killed_process_left_half_written_is_removed() {
    let directory = fixture::directory();
    let half = directory.path().join("training-sets/tmp-1234");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::write(half.join("train.parquet"), b"PAR1").unwrap();
    let store = EmbeddedFeatureStore::open(directory.path()).unwrap();
    assert!(!half.exists());
    assert!(store.training_sets(&author("ada")).unwrap().is_empty());
}

fn each_store(test: impl Fn(&dyn TrainingSetStore)) {
    test(&InMemoryFeatureStore::new());
    let directory = fixture::directory();
    test(&EmbeddedFeatureStore::open(directory.path()).unwrap());
}

/// Examples of all splits, mixed.
pub fn examples(count: usize) -> Vec<Example> {
    let splits = [Split::Train, Split::Test, Split::Train, Split::Calibration];
    let tasks = [Task::WritePost, Task::WriteSection, Task::AnswerQuestion, Task::Continue];
    let example = |n: usize| Example {
        split: splits[n % 4],
        task: tasks[n % 3],
        document: DocumentId::new(&author("ada"), &format!("https://example.org/{}", n / 2)),
        prompt: vec![ChatMessage::system("You are “Ada”."), ChatMessage::user(format!("Write\n\tno. {n} \\ \"so\""))],
        target: format!("It’s the text of example {n} — with é, 漢字 and 🙂.\r\n\n> quoted\n"),
        complete: n.is_multiple_of(2),
        not_voice: if n.is_multiple_of(5) { vec![0..4, 10..12] } else { vec![] },
    };
    (0..count).map(example).collect()
}

pub fn set(author: &AuthorId, examples: &[Example], seconds: i64) -> TrainingSet {
    let documents: Vec<TrainingDocument> = examples
        .iter()
        .step_by(2)
        .map(|example| TrainingDocument {
            id: example.document,
            url: "https://example.org/".to_owned(),
            content_hash: Digest::of("text"),
            split: example.split,
        })
        .collect();
    let mut counts = BTreeMap::new();
    for example in examples {
        *counts.entry(format!("{}/{}", example.split.as_str(), example.task.as_str())).or_default() += 1;
    }
    let prompt = PromptVersion("twin-1+00000000".to_owned());
    let content = TrainingSet::content_digest(author, &view().id(), &prompt, "sft-1", &documents, examples);
    TrainingSet {
        id: TrainingSetId::new(&content),
        content,
        author: author.clone(),
        feature_view: view().id(),
        prompt,
        recipe: "sft-1".to_owned(),
        documents,
        counts,
        created_at: Timestamp::from_second(seconds).unwrap(),
    }
}

#[test]
fn an_export_is_what_the_hub_and_trl_read() {
    let examples = examples(30);
    let set = set(&author("ada"), &examples, 1);
    let ada = Author { name: "Ada: a \"Countess\"\n# no heading".to_owned(), ..Author::new(author("ada")) };
    for format in [ExportFormat::Parquet, ExportFormat::Jsonl] {
        let directory = fixture::directory();
        let out = directory.path().join("out");
        let files = export(&set, &examples, &ada, format, &out).unwrap();
        assert_eq!(files.len(), 5);
        assert!(files.iter().all(|file| file.is_file()));
        let again = export(&set, &examples, &ada, format, &out).unwrap_err();
        assert!(again.to_string().contains("not empty"), "{again}");

        let card = std::fs::read_to_string(out.join("README.md")).unwrap();
        let header: serde_json::Value = serde_json::from_str(card.lines().nth(1).unwrap()).unwrap();
        assert_eq!(header["configs"][0]["data_files"].as_array().unwrap().len(), 3);
        for file in header["configs"][0]["data_files"].as_array().unwrap() {
            assert!(out.join(file["path"].as_str().unwrap()).is_file());
        }
        assert!(!card.lines().any(|line| line.starts_with("# no heading")), "{card}");
        let train = examples.iter().filter(|example| example.split == Split::Train).collect::<Vec<_>>();
        let rows = match format {
            ExportFormat::Jsonl => {
                let text = std::fs::read_to_string(out.join("data/train.jsonl")).unwrap();
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>()
            }
            ExportFormat::Parquet => parquet_rows(&out.join("data/train.parquet")),
        };
        assert_eq!(rows.len(), train.len());
        for (row, example) in rows.iter().zip(train) {
            let content =
                |messages: &serde_json::Value| messages.as_array().unwrap().last().unwrap()["content"].clone();
            assert_eq!(row["prompt"].as_array().unwrap().len(), example.prompt.len());
            assert_eq!(content(&row["prompt"]), example.prompt.last().unwrap().content.as_str());
            assert_eq!(content(&row["completion"]), example.target.as_str());
            assert_eq!(row["completion"][0]["role"], "assistant");
            assert_eq!(row["task"], example.task.as_str());
            assert_eq!(row["not_voice"].as_array().unwrap().len(), example.not_voice.len());
        }
    }
}

fn parquet_rows(path: &std::path::Path) -> Vec<serde_json::Value> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::{Field, Row};
    use serde_json::Value;
    fn value(field: &Field) -> Value {
        match field {
            Field::Str(text) => text.as_str().into(),
            Field::Int(number) => (*number).into(),
            Field::Bool(is) => (*is).into(),
            Field::Group(row) => object(row),
            Field::ListInternal(list) => list.elements().iter().map(value).collect(),
            other => panic!("{other:?}"),
        }
    }
    fn object(row: &Row) -> Value {
        row.get_column_iter()
            .map(|(name, field)| (name.clone(), value(field)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    reader.get_row_iter(None).unwrap().map(|row| object(&row.unwrap())).collect()
}
