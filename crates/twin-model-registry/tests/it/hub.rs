use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use twin_domain::{Annotation, ModelRegistry, ModelVersion, ModelVersionId};
use twin_model_registry::LocalRegistry;
use twin_model_registry::hub::{HubClient, HubError, HubOptions, PushOptions, Repository, RepositoryKind};

use crate::fixture::{ada, candidate, files};
use crate::hub_server::{Fault, Hub, TOKEN};

const VOICE: &str = "ada/voice";

fn voice() -> Repository {
    Repository::parse(RepositoryKind::Model, VOICE).unwrap()
}

fn client(hub: &Hub) -> HubClient {
    client_with(&hub.url, Some(TOKEN))
}

fn client_with(url: &str, token: Option<&str>) -> HubClient {
    let token = token.map(str::to_owned);
    HubClient::new(HubOptions { endpoint: url.to_owned(), token, offline: false }).unwrap()
}

/// A registry with version 1.
fn registered(place: &Path) -> (LocalRegistry, ModelVersion) {
    let registry = LocalRegistry::open(&place.join("registry")).unwrap();
    files(&place.join("files"), 1);
    std::fs::write(place.join("files/README.md"), "---\nlanguage: \"en\"\n---\n\n# A voice\n").unwrap();
    let version = registry.register(&candidate(1), &place.join("files")).unwrap();
    (registry, version)
}

fn other(place: &Path) -> LocalRegistry {
    LocalRegistry::open(&place.join("other")).unwrap()
}

async fn push(hub: &Hub, registry: &LocalRegistry, id: &ModelVersionId) -> Result<Vec<String>, HubError> {
    Ok(client(hub).push(registry, id, &voice(), &PushOptions::default()).await?.sent)
}

fn fault(of: &'static str, status: u16, message: &'static str, times: usize) -> Fault {
    Fault { of, status, message, times, carried_out: false }
}

/// Every file of a version.
fn contents(registry: &LocalRegistry, id: &ModelVersionId) -> Vec<(String, Vec<u8>)> {
    let directory = registry.open(id).unwrap();
    let mut found: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn what_is_pushed_is_pulled_byte_for_byte_and_pushing_again_sends_nothing() {
    let (hub, place) = (Hub::start().await, tempfile::tempdir().unwrap());
    let (registry, version) = registered(place.path());
    let sent = push(&hub, &registry, &version.id).await.unwrap();
    assert_eq!(sent.len(), 5, "{sent:?}");
    assert!(hub.is_private(VOICE));
    assert_eq!(hub.tags(VOICE).keys().collect::<Vec<_>>(), ["v1"]);
    let log = hub.take_log();
    assert!(log.iter().any(|request| request.starts_with("PUT /storage/")), "the weights go as a large file: {log:?}");

    assert!(push(&hub, &registry, &version.id).await.unwrap().is_empty());
    let log = hub.take_log();
    assert!(!log.iter().any(|request| request.contains("/commit/") || request.starts_with("PUT")), "{log:?}");
    assert_eq!(hub.commits(VOICE), 2, "the first one and ours");

    hub.entries_a_page(2);
    let other = other(place.path());
    let pulled = client(&hub).pull(&other, &voice(), "v1").await.unwrap();
    assert_eq!((&pulled.model, &pulled.original), (&version.id, &version.id));
    assert_eq!(contents(&other, &pulled.model), contents(&registry, &version.id));
    assert!(other.verify(&ada()).unwrap().is_empty());
    let again = client(&hub).pull(&other, &voice(), &pulled.commit).await.unwrap();
    assert_eq!((again.model, other.versions(&ada()).unwrap().len()), (pulled.model, 1));
}

#[tokio::test]
async fn the_card_is_what_the_hub_reads() {
    let (hub, place) = (Hub::start().await, tempfile::tempdir().unwrap());
    let registry = LocalRegistry::open(&place.path().join("registry")).unwrap();
    files(&place.path().join("files"), 1);
    let card = "---\nbase_model: x\nlanguage: \"en\"\n---\n\n# A voice\n\nOf Ada.\n";
    std::fs::write(place.path().join("files/README.md"), card).unwrap();
    let mut measured = candidate(1);
    measured.metrics.insert("bits_per_byte.author.gain".to_owned(), 0.25);
    measured.metrics.insert("bits_per_byte.author.gain.low".to_owned(), 0.125);
    measured.metrics.insert("bits_per_byte.author.gain.high".to_owned(), 0.375);
    let version = registry.register(&measured, &place.path().join("files")).unwrap();
    let options = PushOptions {
        license: "apache-2.0".to_owned(),
        dataset: Some("ada/posts".to_owned()),
        ..PushOptions::default()
    };
    client(&hub).push(&registry, &version.id, &voice(), &options).await.unwrap();
    let pushed = String::from_utf8(hub.file(VOICE, "v1", "README.md").unwrap()).unwrap();
    for line in [
        "base_model: \"hub/smol\"",
        "library_name: peft",
        "license: \"apache-2.0\"",
        "datasets: [\"ada/posts\"]",
        "language: \"en\"",
        "# A voice",
        "PeftModel.from_pretrained(base, \"ada/voice\", revision=\"v1\")",
    ] {
        assert!(pushed.lines().any(|found| found.contains(line)), "{line}\n{pushed}");
    }
    let index = pushed.lines().find_map(|line| line.strip_prefix("model-index: ")).unwrap();
    let index: serde_json::Value = serde_json::from_str(index).unwrap();
    let metric = &index[0]["results"][0]["metrics"][0];
    assert_eq!((&metric["type"], &metric["value"]), (&"bits_per_byte_gain".into(), &0.25.into()));
    assert_eq!(metric["args"]["confidence_interval_95"], serde_json::json!([0.125, 0.375]));
    assert_eq!(hub.file(VOICE, "v1", "registered-card.md").unwrap(), card.as_bytes());
}

#[tokio::test]
async fn a_hub_that_fails_for_a_while_is_asked_again_and_nothing_is_done_twice() {
    for (of, status) in [
        ("POST /api/repos/create", 503),
        ("GET /api/models/ada/voice/refs", 429),
        ("GET /api/models/ada/voice/tree", 500),
        ("POST /api/models/ada/voice/preupload", 502),
        ("objects/batch", 429),
        ("PUT /storage", 500),
        ("lfs/verify", 503),
        ("POST /api/models/ada/voice/commit", 500),
        ("POST /api/models/ada/voice/tag", 503),
    ] {
        for carried_out in [false, true] {
            let (hub, place) = (Hub::start().await, tempfile::tempdir().unwrap());
            let (registry, version) = registered(place.path());
            hub.fail(Fault { carried_out, ..fault(of, status, "try again", 2) });
            push(&hub, &registry, &version.id).await.unwrap_or_else(|error| panic!("{of} {carried_out}: {error}"));
            assert_eq!(hub.commits(VOICE), 2, "{of} {carried_out}");
            assert_eq!(hub.tags(VOICE).len(), 1, "{of} {carried_out}");
            client(&hub).pull(&other(place.path()), &voice(), "v1").await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_and_the_token_is_not() {
    let place = tempfile::tempdir().unwrap();
    let (registry, version) = registered(place.path());
    let cases: [(Fault, &str); 6] = [
        (fault("/commit/", 403, "Storage quota exceeded for hf_secretsecretsecret", 9), "no room left"),
        (fault("/commit/", 403, "you may only read", 9), "does not let this token"),
        (fault("objects/batch", 507, "full", 9), "no room left"),
        (fault("/preupload/", 400, "bad hf_secretsecretsecret", 9), "refused"),
        (fault("/refs", 500, "down", 99), "5 times"),
        (fault("repos/create", 404, "no such user", 9), "ada/voice"),
    ];
    for (fault, expected) in cases {
        let hub = Hub::start().await;
        hub.fail(fault);
        let error = push(&hub, &registry, &version.id).await.unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(said.contains(expected) && !said.contains(TOKEN), "{said}");
        assert!(hub.tags(VOICE).is_empty());
    }
    let hub = Hub::start().await;
    let wrong = client_with(&hub.url, Some("hf_wrong"));
    let error = wrong.push(&registry, &version.id, &voice(), &PushOptions::default()).await.unwrap_err();
    assert!(matches!(error, HubError::Unauthorized { .. }) && error.to_string().contains("HF_TOKEN"), "{error}");
    assert!(!format!("{error:?}").contains("hf_wrong"));
    let nowhere = client_with("http://127.0.0.1:9", None);
    let error = nowhere.pull(&registry, &voice(), "v1").await.unwrap_err();
    assert!(matches!(error, HubError::Unreachable { .. }), "{error}");
    let offline = HubOptions { endpoint: hub.url.clone(), token: Some(TOKEN.to_owned()), offline: true };
    assert!(!format!("{offline:?}").contains(TOKEN));
    hub.take_log();
    let error = HubClient::new(offline).unwrap().pull(&registry, &voice(), "v1").await.unwrap_err();
    assert!(matches!(error, HubError::Offline) && hub.take_log().is_empty());
    for bad in ["ada", "ada/", "/x", "a/b/c", "../x", "ada/..", "ada/x.git", "a b/c"] {
        assert!(matches!(Repository::parse(RepositoryKind::Model, bad), Err(HubError::Name { .. })), "{bad}");
    }
}

#[tokio::test]
async fn a_tag_is_of_one_version_for_good() {
    let (hub, place) = (Hub::start().await, tempfile::tempdir().unwrap());
    let (registry, version) = registered(place.path());
    push(&hub, &registry, &version.id).await.unwrap();
    // Another machine has another version 1.
    let elsewhere = other(place.path());
    files(&place.path().join("more"), 2);
    let another = elsewhere.register(&candidate(2), &place.path().join("more")).unwrap();
    let error = push(&hub, &elsewhere, &another.id).await.unwrap_err();
    assert!(matches!(error, HubError::TagTaken { .. }), "{error}");
    // And a pull of the first gets the next number there, as 1 is taken.
    let pulled = client(&hub).pull(&elsewhere, &voice(), "v1").await.unwrap();
    assert_eq!((pulled.original.number, pulled.model.number), (1, 2));
    assert_eq!(client(&hub).tags(&voice()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_dataset_goes_with_its_folders() {
    let (hub, place) = (Hub::start().await, tempfile::tempdir().unwrap());
    std::fs::create_dir(place.path().join("data")).unwrap();
    std::fs::write(place.path().join("README.md"), "---\nlanguage: en\n---\n").unwrap();
    std::fs::write(place.path().join("data/train.parquet"), [0, 159, 146, 150]).unwrap();
    let posts = Repository::parse(RepositoryKind::Dataset, "ada/posts").unwrap();
    let push =
        || async { client(&hub).push_directory(place.path(), &posts, "set-1", "set-1", true).await.unwrap().sent };
    assert_eq!(push().await, ["README.md", "data/train.parquet"]);
    let there = hub.file("datasets/ada/posts", "set-1", "data/train.parquet").unwrap();
    assert_eq!((there, push().await), (vec![0, 159, 146, 150], Vec::new()));
}

#[tokio::test]
async fn a_name_that_goes_to_another_version_does_so_on_the_hub() {
    let (hub, place) = (Hub::start().await, tempfile::tempdir().unwrap());
    let (registry, first) = registered(place.path());
    files(&place.path().join("more"), 2);
    let second = registry.register(&candidate(2), &place.path().join("more")).unwrap();
    let best = || Annotation::Tagged { tag: "best".to_owned() };
    registry.annotate(&first.id, &best(), "ada").unwrap();
    push(&hub, &registry, &first.id).await.unwrap();
    let of_first = hub.tags(VOICE)["best"].clone();
    assert_eq!(of_first, hub.tags(VOICE)["v1"]);
    hub.take_log();
    push(&hub, &registry, &first.id).await.unwrap();
    assert!(!hub.take_log().iter().any(|request| request.contains("/tag/")), "it is there already");

    registry.annotate(&first.id, &Annotation::Untagged { tag: "best".to_owned() }, "ada").unwrap();
    registry.annotate(&second.id, &best(), "ada").unwrap();
    push(&hub, &registry, &second.id).await.unwrap();
    let tags = hub.tags(VOICE);
    assert_eq!((&tags["best"], &tags["v1"]), (&tags["v2"], &of_first));

    // Whoever pulls it gets the name, unless another version has it there.
    let elsewhere = other(place.path());
    let pulled = client(&hub).pull(&elsewhere, &voice(), "best").await.unwrap();
    assert_eq!((pulled.model.number, pulled.tags), (2, vec!["best".to_owned()]));
    assert!(elsewhere.annotations(&ada()).unwrap()[&2].tags.contains("best"));
    registry.annotate(&second.id, &Annotation::Untagged { tag: "best".to_owned() }, "ada").unwrap();
    registry.annotate(&first.id, &best(), "ada").unwrap();
    let pulled = client(&hub).pull(&registry, &voice(), "best").await.unwrap();
    assert_eq!((pulled.model.number, pulled.tags), (2, Vec::new()));
}

#[tokio::test]
async fn a_broken_download_goes_on_and_a_wrong_file_is_not_registered() {
    let (hub, place) = (Hub::start().await, tempfile::tempdir().unwrap());
    let (registry, version) = registered(place.path());
    push(&hub, &registry, &version.id).await.unwrap();
    hub.cut_after(700_000);
    let other = other(place.path());
    client(&hub).pull(&other, &voice(), "v1").await.unwrap();
    assert_eq!(contents(&other, &version.id), contents(&registry, &version.id));

    let third = LocalRegistry::open(&place.path().join("third")).unwrap();
    let weights = std::fs::read(registry.open(&version.id).unwrap().join("adapter_model.safetensors")).unwrap();
    let mut wrong = weights.clone();
    wrong[1000] ^= 1;
    hub.tamper(VOICE, "v1", "adapter_model.safetensors", &wrong);
    let error = client(&hub).pull(&third, &voice(), "v1").await.unwrap_err();
    assert!(error.to_string().contains("adapter_model.safetensors"), "{error}");
    assert!(third.versions(&ada()).unwrap().is_empty());
    hub.tamper(VOICE, "v1", "adapter_model.safetensors", &weights);
    client(&hub).pull(&third, &voice(), "v1").await.unwrap();

    let manifest = hub.file(VOICE, "v1", "manifest.json").unwrap();
    let hostile = String::from_utf8(manifest).unwrap().replace("\"adapter_config.json\"", "\"../../../../evil\"");
    hub.tamper(VOICE, "v1", "manifest.json", hostile.as_bytes());
    let fourth = LocalRegistry::open(&place.path().join("fourth")).unwrap();
    let error = client(&hub).pull(&fourth, &voice(), "v1").await.unwrap_err();
    assert!(matches!(error, HubError::NotAVersion { .. }), "{error}");
    assert!(matches!(client(&hub).pull(&fourth, &voice(), "v9").await, Err(HubError::NotFound { .. })));
}

const PLACE: &str = "TWIN_TEST_HUB_PLACE";
const URL: &str = "TWIN_TEST_HUB_URL";
const OPERATION: &str = "TWIN_TEST_HUB_OPERATION";
const STEP: &str = "TWIN_TEST_HUB_STEP";

#[tokio::test(flavor = "multi_thread")]
async fn whenever_a_push_or_a_pull_ends_the_next_one_completes_it() {
    for operation in ["push", "pull"] {
        let mut steps = 0;
        for step in 0.. {
            let (hub, place) = (Hub::start().await, tempfile::tempdir().unwrap());
            let (registry, version) = registered(place.path());
            if operation == "pull" {
                push(&hub, &registry, &version.id).await.unwrap();
            }
            let (path, url) = (place.path().to_owned(), hub.url.clone());
            let status = tokio::task::spawn_blocking(move || child(&path, &url, operation, step)).await.unwrap();
            let other = other(place.path());
            assert!(other.verify(&ada()).unwrap().is_empty(), "{operation} after step {step}");
            assert!(other.versions(&ada()).unwrap().len() <= 1);
            if let Some(weights) = hub.file(VOICE, "v1", "adapter_model.safetensors") {
                assert_eq!(weights.len(), 2_000_000, "a tag is of a whole version");
            }
            push(&hub, &registry, &version.id).await.unwrap();
            client(&hub).pull(&other, &voice(), "v1").await.unwrap();
            assert_eq!(contents(&other, &version.id), contents(&registry, &version.id));
            assert_eq!((hub.commits(VOICE), hub.tags(VOICE).len()), (2, 1), "{operation} after step {step}");
            if status.success() {
                break;
            }
            assert!(status.code().is_none(), "{operation} after step {step} failed: {status}");
            steps += 1;
            // Pieces of the weights are all alike.
            assert!(step < 200);
        }
        assert!(steps >= 4, "only {steps} steps of {operation}");
    }
}

/// Not a test of its own: the process that ends.
#[tokio::test]
async fn child_ends_after_a_step_with_the_hub() {
    let Some(place) = std::env::var_os(PLACE) else { return };
    let place = Path::new(&place);
    let last: usize = std::env::var(STEP).unwrap().parse().unwrap();
    let taken = AtomicUsize::new(0);
    let observer = Arc::new(move |_: &str| {
        if taken.fetch_add(1, Ordering::SeqCst) == last {
            std::process::abort();
        }
    });
    let hub = client_with(&std::env::var(URL).unwrap(), Some(TOKEN)).observed(observer.clone());
    match std::env::var(OPERATION).unwrap().as_str() {
        "push" => {
            let registry = LocalRegistry::open(&place.join("registry")).unwrap();
            hub.push(&registry, &"ada@v1".parse().unwrap(), &voice(), &PushOptions::default()).await.unwrap();
        }
        _ => drop(hub.pull(&other(place).observed(observer), &voice(), "v1").await.unwrap()),
    }
}

fn child(place: &Path, url: &str, operation: &str, step: usize) -> std::process::ExitStatus {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["hub::child_ends_after_a_step_with_the_hub", "--exact"]).env(PLACE, place).env(URL, url);
    child.env(OPERATION, operation).env(STEP, step.to_string()).output().unwrap().status
}

/// What Python does as the other side: `push FOLDER` or `pull FOLDER`.
const PYTHON: &str = r#"
import os, sys
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
what, folder, endpoint, token = sys.argv[1:]
api = HfApi(endpoint=endpoint, token=token)
if what == "push":
    api.create_repo("ada/python", private=True)
    api.create_repo("ada/python", private=True, exist_ok=True)
    commit = api.upload_folder(repo_id="ada/python", folder_path=folder, commit_message="from Python")
    api.create_tag("ada/python", tag="v1", revision=commit.oid)
    try:
        api.create_tag("ada/python", tag="v1")
        sys.exit("the tag was made twice")
    except HfHubHTTPError as error:
        assert error.response.status_code == 409, error
    assert [tag.name for tag in api.list_repo_refs("ada/python").tags] == ["v1"]
else:
    got = snapshot_download("ada/voice", revision="v1", local_dir=folder, endpoint=endpoint, token=token)
    files = sorted(api.list_repo_files("ada/voice", revision="v1"))
    print(got, files)
    card = __import__("huggingface_hub").ModelCard.load(os.path.join(folder, "README.md"))
    assert card.data.base_model == "hub/smol" and card.data.library_name == "peft", card.data
"#;

/// Python's own client does the same with the same server: what either pushes, the other pulls.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn python_pushes_and_pulls_the_same() {
    let Ok(python) = std::env::var("TWIN_TEST_PYTHON") else {
        eprintln!("skipped: set TWIN_TEST_PYTHON to a Python that has huggingface_hub");
        return;
    };
    let (hub, place) = (Hub::start().await, tempfile::tempdir().unwrap());
    let (registry, version) = registered(place.path());
    push(&hub, &registry, &version.id).await.unwrap();
    let run = |what: &'static str, folder: std::path::PathBuf| {
        let mut command = Command::new(&python);
        command.args(["-c", PYTHON, what]).arg(folder).args([&hub.url, TOKEN]);
        // Xet is a protocol of its own beside the API; without it the client speaks LFS.
        command.env("HF_HUB_DISABLE_XET", "1").env("HF_HOME", place.path().join("hf"));
        async move {
            let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    };
    let here = place.path().join("pulled");
    run("pull", here.clone()).await;
    for (name, content) in contents(&registry, &version.id) {
        let name = if name == "README.md" { "registered-card.md".to_owned() } else { name };
        // The sums are made anew where a version is registered.
        if name != "SHA256SUMS" {
            assert_eq!(std::fs::read(here.join(&name)).unwrap(), content, "{name}");
        }
    }
    // Back: Python pushes what it pulled, and it is the same version.
    let _ = std::fs::remove_dir_all(here.join(".cache"));
    run("push", here).await;
    let other = other(place.path());
    let python = Repository::parse(RepositoryKind::Model, "ada/python").unwrap();
    let pulled = client(&hub).pull(&other, &python, "v1").await.unwrap();
    assert_eq!(contents(&other, &pulled.model), contents(&registry, &version.id));
}

/// Loads a pushed adapter by its name, onto a base of the right shape with random weights: the Hub's own base is not here.
const PEFT: &str = r#"
import sys
import torch
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM
name, weights = sys.argv[1:]
config = PeftConfig.from_pretrained(name, revision="v1")
assert config.peft_type == "LORA" and config.base_model_name_or_path, config
base = LlamaForCausalLM(LlamaConfig(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
    num_key_value_heads=3, tie_word_embeddings=True)).eval()
tokens = torch.arange(16).unsqueeze(0)
with torch.no_grad():
    before = base(tokens).logits.clone()
    model = PeftModel.from_pretrained(base, name, revision="v1").eval()
    after = model(tokens).logits
assert (after - before).abs().max() > 1e-4, "the adapter changes nothing"
loaded = {key.replace(".default", ""): value for key, value in model.state_dict().items() if "lora_" in key}
stored = load_file(weights)
assert set(loaded) == set(stored), set(loaded) ^ set(stored)
assert all(torch.equal(loaded[key], stored[key]) for key in stored)
print(len(stored), "tensors are the same")
"#;

/// A real adapter, from the registry that TWIN_TEST_REGISTRY names, is pushed, and PEFT loads it by name.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn peft_loads_by_name_what_was_pushed() {
    let (Ok(python), Ok(registry)) = (std::env::var("TWIN_TEST_PYTHON"), std::env::var("TWIN_TEST_REGISTRY")) else {
        eprintln!(
            "skipped: set TWIN_TEST_PYTHON to a Python with torch, transformers and peft, TWIN_TEST_REGISTRY to a registry"
        );
        return;
    };
    let (hub, place) = (Hub::start().await, tempfile::tempdir().unwrap());
    let registry = LocalRegistry::open(Path::new(&registry)).unwrap();
    let author = registry.authors().unwrap().remove(0);
    let version = registry.versions(&author).unwrap().remove(0);
    client(&hub).push(&registry, &version.id, &voice(), &PushOptions::default()).await.unwrap();
    assert_eq!(version.id.number, 1);
    let weights = registry.open(&version.id).unwrap().join("adapter_model.safetensors");
    let mut command = Command::new(python);
    command.args(["-c", PEFT, VOICE]).arg(weights).env("HF_ENDPOINT", &hub.url).env("HF_TOKEN", TOKEN);
    command.env("HF_HUB_DISABLE_XET", "1").env("HF_HOME", place.path().join("hf"));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eprintln!("{}", String::from_utf8_lossy(&output.stdout));
}
