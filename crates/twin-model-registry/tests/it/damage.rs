use std::path::Path;

use twin_domain::{ModelRegistry, ModelVersion, RegistryError};
use twin_model_registry::LocalRegistry;

use crate::fixture::{ada, because, candidate, files};

#[test]
fn every_changed_byte_of_a_version_is_seen_and_the_file_is_named() {
    let place = tempfile::tempdir().unwrap();
    let (registry, version) = registered(place.path());
    let directory = registry.open(&version.id).unwrap();
    let names = ["adapter_model.safetensors", "adapter_config.json", "README.md", "manifest.json", "SHA256SUMS"];
    for name in names {
        let file = directory.join(name);
        let whole = std::fs::read(&file).unwrap();
        for at in (0..whole.len()).step_by(whole.len().div_ceil(40)) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            for (change, bytes) in
                [("flipped", Some(flipped.as_slice())), ("cut", Some(&whole[..at])), ("deleted", None)]
            {
                replace(&file, bytes);
                let problem = match registry.open(&version.id) {
                    Err(RegistryError::Damaged { what, problem }) => format!("{what}: {problem}"),
                    Err(RegistryError::NotFound { .. }) if bytes.is_none() && name == "manifest.json" => {
                        name.to_owned()
                    }
                    other => panic!("{name} {change} at {at}: {other:?}"),
                };
                assert!(problem.contains(name), "{name} {change} at {at}: {problem}");
                assert!(!registry.verify(&ada()).unwrap().is_empty(), "{name} {change} at {at}");
            }
        }
        replace(&file, Some(&whole));
        assert!(registry.open(&version.id).is_ok() && registry.verify(&ada()).unwrap().is_empty());
    }
}

#[test]
fn a_damaged_version_does_not_keep_others_from_being_registered() {
    let place = tempfile::tempdir().unwrap();
    let (registry, version) = registered(place.path());
    replace(&registry.open(&version.id).unwrap().join("manifest.json"), Some(b"{"));
    let again = registry.register(&candidate(1), &place.path().join("files")).unwrap();
    assert_eq!((again.id.number, &again.content), (2, &version.content));
    assert!(registry.open(&again.id).is_ok());
    assert_eq!(registry.verify(&ada()).unwrap().len(), 1);
}

#[test]
fn the_files_of_a_version_are_read_only_and_sha256sum_agrees() {
    let place = tempfile::tempdir().unwrap();
    let (registry, version) = registered(place.path());
    let directory = registry.open(&version.id).unwrap();
    for entry in std::fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap();
        assert!(entry.metadata().unwrap().permissions().readonly(), "{:?}", entry.file_name());
    }
    match std::process::Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(&directory)
        .output()
    {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        // Not everywhere.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
    }
}

#[test]
fn a_line_of_the_history_that_a_crash_cut_short_is_as_if_it_had_not_been() {
    let place = tempfile::tempdir().unwrap();
    let (registry, version) = registered(place.path());
    for n in [2, 3] {
        let other = registry.register(&candidate(n), &place.path().join("files")).unwrap();
        registry.create_release(&other.id, &other.feature_view, &other.prompt).unwrap();
    }
    registry.create_release(&version.id, &version.feature_view, &version.prompt).unwrap();
    registry.promote(&ada(), 1, &because("first")).unwrap();
    let file = place.path().join("registry/ada/history.jsonl");
    let before = std::fs::read(&file).unwrap();
    registry.promote(&ada(), 2, &because("second")).unwrap();
    let after = std::fs::read(&file).unwrap();
    for end in before.len()..after.len() {
        std::fs::write(&file, &after[..end]).unwrap();
        assert_eq!(registry.serving(&ada()).unwrap().unwrap().number, 1, "cut at {end}");
        registry.promote(&ada(), 3, &because("third")).unwrap();
        let releases: Vec<u32> = registry.history(&ada()).unwrap().iter().map(|entry| entry.release).collect();
        assert_eq!(releases, [1, 3], "cut at {end}");
    }
}

#[test]
fn a_line_of_the_history_that_is_damaged_is_not_passed_over() {
    let place = tempfile::tempdir().unwrap();
    let (registry, version) = registered(place.path());
    registry.create_release(&version.id, &version.feature_view, &version.prompt).unwrap();
    registry.promote(&ada(), 1, &because("first")).unwrap();
    let file = place.path().join("registry/ada/history.jsonl");
    let mut text = std::fs::read(&file).unwrap();
    text[0] = 0xff;
    std::fs::write(&file, text).unwrap();
    match registry.serving(&ada()) {
        Err(RegistryError::Damaged { problem, .. }) => assert!(problem.contains("line 1"), "{problem}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn links_directories_and_odd_names_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let registry = LocalRegistry::open(&place.path().join("registry")).unwrap();
    for odd in ["manifest.json", "SHA256SUMS", ".hidden", "with space", "é", "back\\slash", "new\nline", "colon:"] {
        let files = place.path().join("odd");
        std::fs::create_dir_all(&files).unwrap();
        std::fs::write(files.join("adapter_model.safetensors"), "weights").unwrap();
        std::fs::write(files.join(odd), "odd").unwrap();
        let refused = registry.register(&candidate(1), &files);
        assert!(matches!(refused, Err(RegistryError::Invalid { .. })), "{odd:?}: {refused:?}");
        std::fs::remove_dir_all(&files).unwrap();
    }
    #[cfg(unix)]
    {
        let files = place.path().join("links");
        std::fs::create_dir_all(&files).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", files.join("adapter_model.safetensors")).unwrap();
        assert!(matches!(registry.register(&candidate(1), &files), Err(RegistryError::Invalid { .. })));
    }
    assert!(registry.versions(&ada()).unwrap().is_empty());
    assert!(registry.authors().unwrap().is_empty());
}

#[test]
fn directories_that_are_no_versions_are_passed_over() {
    let place = tempfile::tempdir().unwrap();
    let (registry, version) = registered(place.path());
    for name in ["v0", "v01", "v+1", "vx", "v99999999999", "tmp-1", ".DS_Store"] {
        std::fs::create_dir_all(place.path().join("registry/ada/versions").join(name)).unwrap();
    }
    std::fs::write(place.path().join("registry/ada/releases/1.partial"), "{").unwrap();
    assert_eq!(registry.versions(&ada()).unwrap(), [version]);
    assert!(registry.releases(&ada()).unwrap().is_empty());
}

fn registered(place: &Path) -> (LocalRegistry, ModelVersion) {
    let registry = LocalRegistry::open(&place.join("registry")).unwrap();
    let source = place.join("files");
    files(&source, 1);
    std::fs::write(source.join("adapter_model.safetensors"), vec![7; 4000]).unwrap();
    let version = registry.register(&candidate(1), &source).unwrap();
    (registry, version)
}

/// Replaces a read-only file, or deletes it.
fn replace(file: &Path, bytes: Option<&[u8]>) {
    let _ = std::fs::remove_file(file);
    if let Some(bytes) = bytes {
        std::fs::write(file, bytes).unwrap();
    }
}
