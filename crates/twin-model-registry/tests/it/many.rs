use twin_domain::ModelRegistry;
use twin_model_registry::LocalRegistry;

use crate::fixture::{ada, candidate};

#[test]
fn a_list_is_the_same_with_and_without_its_index_and_shows_what_can_be_read() {
    let place = tempfile::tempdir().unwrap();
    let registry = LocalRegistry::open(&place.path().join("registry")).unwrap();
    let files = place.path().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("adapter_model.safetensors"), "w").unwrap();
    for n in 0..200 {
        registry.register(&candidate(n), &files).unwrap();
    }
    let with_index = registry.list(&ada()).unwrap();
    assert_eq!(with_index.versions.len(), 200);
    assert!(with_index.versions.windows(2).all(|pair| pair[0].number < pair[1].number));
    let version = registry.version(&"ada@v77".parse().unwrap()).unwrap();
    assert_eq!(with_index.versions[76].content, version.content);

    let index = place.path().join("registry/ada/index.jsonl");
    let whole = std::fs::read(&index).unwrap();
    std::fs::remove_file(&index).unwrap();
    assert_eq!(registry.list(&ada()).unwrap(), with_index, "without an index");
    std::fs::write(&index, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(registry.list(&ada()).unwrap(), with_index, "with half an index");
    let rubbish = [b"{\"number\":3}\nrubbish\n\xff\xfe\n".as_slice(), &whole[..300], b"\n"].concat();
    std::fs::write(&index, rubbish).unwrap();
    assert_eq!(registry.list(&ada()).unwrap(), with_index, "with a damaged index");

    // The next registration makes it whole again; a version that cannot be read costs only itself.
    let manifest = place.path().join("registry/ada/versions/v5/manifest.json");
    std::fs::remove_file(&manifest).unwrap();
    std::fs::write(&manifest, "{").unwrap();
    registry.register(&candidate(1000), &files).unwrap();
    let listing = registry.list(&ada()).unwrap();
    assert_eq!((listing.versions.len(), listing.unreadable), (200, vec![5]));
    assert_eq!(std::fs::read_to_string(&index).unwrap().lines().count(), 200);
}
