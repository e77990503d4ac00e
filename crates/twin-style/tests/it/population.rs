use std::sync::Arc;

use proptest::prelude::*;
use twin_style::assessment::{Assessor, Gate};
use twin_style::likeness::{AuthorTexts, Others, Refusal, Ruler, RulerConfig};
use twin_style::population::{Contributor, Population, PopulationError};

fn population(authors: &[(&str, &[String])]) -> Population {
    fn contributor<'a>((name, posts): &(&str, &'a [String])) -> Contributor<'a> {
        Contributor {
            name: (*name).to_owned(),
            genre: "posts".to_owned(),
            posts: posts.iter().map(String::as_str).collect(),
        }
    }
    Population::build("test", &authors.iter().map(contributor).collect::<Vec<_>>())
}

fn samples() -> Population {
    population(&[("Maren", &crate::sample_posts("maren-holt")), ("Idris", &crate::sample_posts("idris-vane"))])
}

#[test]
fn what_is_read_is_what_was_written() {
    let population = samples();
    let bytes = population.to_bytes().unwrap();
    assert_eq!(Population::from_bytes(&bytes).unwrap(), population);
    assert_eq!(bytes, samples().to_bytes().unwrap(), "the same texts make the same bytes");
    let members: Vec<_> = population.members().map(|member| (member.name.as_str(), member.held_out_units)).collect();
    assert_eq!(members.len(), 2);
    assert!(members.iter().all(|(_, units)| (2..=6).contains(units)), "{members:?}");
}

#[test]
fn an_author_alone_is_compared_with_a_population() {
    let posts = crate::sample_posts("maren-holt");
    let refs: Vec<&str> = posts.iter().map(String::as_str).collect();
    let author = AuthorTexts::by_date("maren", &refs, 0.6);
    let among = |population| Others { population: Some(Arc::new(population)), ..Others::default() };
    let ruler = Ruler::fit_among(&author, &among(samples()), RulerConfig::default()).unwrap();
    eprintln!("{:?}", ruler.quality());
    // Maren herself is in the population, and left out of it by name.
    assert_eq!(ruler.quality().impostor_authors, 1);
    assert!(ruler.quality().auc > 0.9);
    assert!((ruler.likeness(&author.held_out).unwrap().value - 1.0).abs() < 0.1);
    let idris = crate::sample_posts("idris-vane");
    assert!(ruler.likeness(&idris.iter().map(String::as_str).collect::<Vec<_>>()).unwrap().value < 0.3);

    let nobody = among(population(&[("Maren", &posts)]));
    let refused = Ruler::fit_among(&author, &nobody, RulerConfig::default()).err();
    assert!(matches!(refused, Some(Refusal::NoImpostors { .. })), "{refused:?}");
}

#[test]
fn somebody_of_the_same_kind_is_not_the_author_among_strangers() {
    let file =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/population/posts-and-essays-2.json.gz");
    let population = Population::from_bytes(&std::fs::read(file).unwrap()).unwrap();
    let (maren, idris) = (crate::sample_posts("maren-holt"), crate::sample_posts("idris-vane"));
    let refs: Vec<&str> = maren.iter().map(String::as_str).collect();
    let author = AuthorTexts::by_date("maren", &refs, 0.6);
    let among = Others { population: Some(Arc::new(population)), ..Others::default() };
    let assessor = Assessor::fit(&author, &among, RulerConfig::default()).unwrap();
    assert!(assessor.assess(&author.held_out).is_like_the_author());
    // All others are technical authors and essayists of old; he writes of a hobby, as she does.
    let stranger = assessor.assess(&idris.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(stranger.stopped_by.contains(&Gate::Likeness), "{stranger:?}");
}

#[test]
fn real_authors_are_told_apart_by_statistics_alone() {
    let Some(rows) = crate::rows("blogs-tech/matklad.jsonl") else { return };
    let Some(others) = crate::rows("blogs-tech/rustblog.jsonl") else { return };
    let Some(essays) = crate::rows("essays-pd/essays.jsonl") else { return };
    let text = |row: &serde_json::Value| twin_style::text::as_markdown(row["text"].as_str().unwrap());
    let mut dated: Vec<(String, String)> =
        rows.iter().map(|row| (row["date"].as_str().unwrap().to_owned(), text(row))).collect();
    dated.sort();
    let own: Vec<&str> = dated.iter().map(|(_, text)| text.as_str()).collect();
    let mut names: Vec<&str> = others.iter().chain(&essays).map(|row| row["author"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    let of =
        |name: &str| others.iter().chain(&essays).filter(|row| row["author"] == name).map(text).collect::<Vec<_>>();
    let texts: Vec<(&str, Vec<String>)> = names.iter().map(|name| (*name, of(name))).collect();
    let population = population(&texts.iter().map(|(name, texts)| (*name, texts.as_slice())).collect::<Vec<_>>());
    let author = AuthorTexts::by_date("matklad", &own, 0.6);
    let among = Others { population: Some(Arc::new(population)), ..Others::default() };
    let ruler = Ruler::fit_among(&author, &among, RulerConfig::default()).unwrap();
    let quality = ruler.quality();
    eprintln!(
        "matklad among {} by statistics: AUC {:.3} {:?}",
        quality.impostor_authors, quality.auc, quality.auc_interval
    );
    assert!(quality.impostor_authors >= 8 && quality.auc > 0.9, "{quality:?}");
}

#[test]
fn a_file_of_another_kind_is_refused() {
    assert!(matches!(Population::from_bytes(b"no population"), Err(PopulationError::Damaged(_))));
    assert!(Population::from_bytes(&[]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn damage_is_an_error_and_never_a_panic(cut in 0_usize..20_000, at in 0_usize..20_000, byte in any::<u8>()) {
        static BYTES: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| samples().to_bytes().unwrap());
        let mut bytes = BYTES.clone();
        prop_assert!(Population::from_bytes(&bytes[..cut.min(bytes.len() - 1)]).is_err());
        let at = at % bytes.len();
        bytes[at] ^= byte;
        let _ = Population::from_bytes(&bytes);
    }
}
