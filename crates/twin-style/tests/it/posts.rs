use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;
use twin_style::copying::CopyIndex;
use twin_style::fluency::{FluencyGate, TrigramPool};
use twin_style::likeness::{AuthorTexts, Ruler, RulerConfig};
use twin_style::stats::{auc, mean, quantile};
use twin_style::text::{prose, units, without_boilerplate};

/// Known text and newer 500-word pieces of nine technical authors.
struct Authors(BTreeMap<String, (String, Vec<String>)>);

impl Authors {
    fn read() -> Option<Self> {
        let author = |row: &Value| row["author"].as_str().unwrap().to_owned();
        let text = |row: &Value| crate::as_markdown(row["text"].as_str().unwrap());
        let mut authors = BTreeMap::new();
        for row in crate::rows("style-verification-tech/known.jsonl")? {
            authors.insert(author(&row), (text(&row), Vec::new()));
        }
        for row in crate::rows("style-verification-tech/questioned.jsonl")? {
            authors.get_mut(&author(&row)).unwrap().1.push(text(&row));
        }
        Some(Self(authors))
    }

    fn texts(&self, name: &str) -> AuthorTexts<'_> {
        let (known, pieces) = &self.0[name];
        let held_out = pieces.iter().map(String::as_str).collect();
        AuthorTexts { name: name.to_owned(), known: vec![known], held_out }
    }

    fn ruler(&self, name: &str, only: &[&str]) -> Ruler {
        let impostors: Vec<AuthorTexts<'_>> = self
            .0
            .keys()
            .filter(|other| *other != name && (only.is_empty() || only.contains(&other.as_str())))
            .map(|other| self.texts(other))
            .collect();
        let config = RulerConfig { min_auc: 0.0, ..RulerConfig::default() };
        Ruler::fit(&self.texts(name), &impostors, config).unwrap()
    }
}

#[test]
fn technical_authors_are_told_apart() {
    let Some(authors) = Authors::read() else { return };
    let start = Instant::now();
    let mut cases = Vec::new();
    for name in ["matklad", "burntsushi", "Russ Cox", "Niko Matsakis"] {
        let ruler = authors.ruler(name, &[]);
        let quality = ruler.quality();
        assert!(quality.auc > 0.9, "{quality:?}");
        eprintln!(
            "{name}: AUC {:.3}, alone {:?}",
            quality.auc,
            quality.component_auc.map(|(_, auc)| (auc * 1e3).round() / 1e3)
        );
        for (other, (_, pieces)) in &authors.0 {
            cases.extend(pieces.iter().map(|piece| (ruler.score(&prose(piece)), other == name)));
        }
    }
    let pooled = auc(&cases).unwrap();
    eprintln!(
        "{} cases of four authors against nine: pooled AUC {pooled:.3}, {:.1} s",
        cases.len(),
        start.elapsed().as_secs_f64()
    );
    assert!(pooled > 0.93, "{pooled}");
}

#[test]
fn likeness_of_real_text_and_of_cheats() {
    let Some(authors) = Authors::read() else { return };
    let ruler = authors.ruler("matklad", &["burntsushi", "Niko Matsakis"]);
    eprintln!("matklad's ruler: {:?}", ruler.quality());
    assert!(ruler.quality().auc > 0.8);
    let (known, own) = &authors.0["matklad"];
    let words: Vec<&str> = known.split_whitespace().collect();
    // Every 37th word: the author's words in no order. Every sentence in another order: stitched from copies.
    let salad: Vec<String> =
        (0..8).map(|n| words.iter().skip(n).step_by(37).take(500).copied().collect::<Vec<_>>().join(" ")).collect();
    let copied: Vec<String> = (0..8).map(|n| words[n * 2000..n * 2000 + 500].join(" ")).collect();
    let strangers = authors.0.iter().filter(|(name, _)| *name != "matklad").flat_map(|(_, (_, pieces))| pieces);
    let strangers: Vec<String> = strangers.step_by(5).cloned().collect();

    let index = CopyIndex::new(&[known]);
    let others = authors.0.iter().filter(|(name, _)| *name != "matklad");
    let pool = TrigramPool::new(&others.map(|(_, (known, _))| prose(known)).collect::<Vec<_>>());
    let gate = FluencyGate::of(&pool, &own.iter().map(|piece| prose(piece)).collect::<Vec<_>>());
    let measure = |name: &str, texts: &[String]| {
        let likeness = ruler.likeness(&texts.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let reports: Vec<_> = texts.iter().map(|text| index.report(text)).collect();
        let copied = mean(reports.iter().map(|report| f64::from(u8::from(report.is_copied()))));
        let fluent = mean(texts.iter().map(|text| f64::from(u8::from(gate.passes(&pool.fluency(&prose(text)))))));
        let (low, high) = likeness.interval;
        eprintln!(
            "{name}: L {:.2} [{low:.2}, {high:.2}], range of the author {:?}, accepted {:.2}, copied {copied:.2}, fluent {fluent:.2}",
            likeness.value, likeness.author_range, likeness.accepted_share
        );
        (likeness, copied, fluent)
    };
    let (own_likeness, own_copied, own_fluent) = measure("held out", own);
    let (strange, ..) = measure("strangers", &strangers);
    let (_, salad_copied, salad_fluent) = measure("salad", &salad);
    let (copy, copy_copied, _) = measure("copies", &copied);
    assert!((own_likeness.value - 1.0).abs() < 1e-9 && own_copied == 0.0 && own_fluent == 1.0);
    assert!(strange.value < 0.6);
    assert!(salad_copied == 0.0 && salad_fluent == 0.0, "only fluency stops words without order");
    assert!(copy.is_over_imitation() && copy_copied == 1.0);
}

#[test]
fn real_new_posts_are_not_copies_of_old_ones() {
    let Some(posts) = crate::rows("blogs-tech/matklad.jsonl") else { return };
    let mut dated: Vec<(&str, String)> = posts
        .iter()
        .map(|post| (post["date"].as_str().unwrap(), prose(&crate::as_markdown(post["text"].as_str().unwrap()))))
        .collect();
    dated.sort();
    let proses = without_boilerplate(&dated.into_iter().map(|(_, prose)| prose).collect::<Vec<_>>());
    let (old, new) = proses.split_at(proses.len() * 6 / 10);
    let new: Vec<String> = units(new, 500).iter().map(|unit| crate::as_markdown(&unit.text)).collect();
    let index = |proses: &[String]| {
        let known: Vec<String> = proses.iter().map(|prose| crate::as_markdown(prose)).collect();
        let start = Instant::now();
        (CopyIndex::new(&known.iter().map(String::as_str).collect::<Vec<_>>()), start.elapsed())
    };
    let (all, built) = index(&proses);
    let start = Instant::now();
    // But for the quotations, every unit stands in one of the posts.
    assert!(new.iter().all(|unit| all.report(unit).share > 0.9));
    let searched = start.elapsed().as_secs_f64() / new.len() as f64;
    let (old_index, _) = index(old);
    let reports: Vec<_> = new.iter().map(|unit| old_index.report(unit)).collect();
    let shares: Vec<f64> = reports.iter().map(|report| report.share).collect();
    let runs: Vec<f64> = reports.iter().map(|report| report.longest_run as f64).collect();
    let flagged = reports.iter().filter(|report| report.is_copied()).count();
    eprintln!(
        "{} units: share p50 {:.3} p95 {:.3} p99 {:.3}, run p50 {} p95 {} p99 {}, flagged {flagged}; index of all posts {:.2} s, a report {:.2} ms",
        new.len(),
        quantile(&shares, 0.5),
        quantile(&shares, 0.95),
        quantile(&shares, 0.99),
        quantile(&runs, 0.5),
        quantile(&runs, 0.95),
        quantile(&runs, 0.99),
        built.as_secs_f64(),
        searched * 1000.0
    );
    assert!(flagged * 50 <= new.len(), "{flagged} of {} real units are taken for copies", new.len());
    assert!(quantile(&runs, 0.5) < 8.0);
}

#[test]
fn the_two_sample_authors_are_told_apart() {
    let posts = |author: &str| -> Vec<String> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(author).join("posts");
        let mut posts: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        // The front matter begins with title and date.
        posts.sort_by_key(|post| post.lines().find(|line| line.starts_with("date:")).unwrap_or_default().to_owned());
        posts
    };
    let (maren, idris) = (posts("maren-holt"), posts("idris-vane"));
    fn parted(posts: &[String]) -> AuthorTexts<'_> {
        AuthorTexts::by_date("author", &posts.iter().map(String::as_str).collect::<Vec<_>>(), 0.6)
    }
    for (author, impostor) in [(&maren, &idris), (&idris, &maren)] {
        let (author, impostor) = (parted(author), parted(impostor));
        let ruler = Ruler::fit(&author, std::slice::from_ref(&impostor), RulerConfig::default()).unwrap();
        let likeness = ruler.likeness(&author.held_out).unwrap();
        eprintln!("{:?}\n{likeness:?}", ruler.quality());
        assert!(ruler.quality().auc > 0.9);
        assert!((likeness.value - 1.0).abs() < 0.1);
        assert!(ruler.likeness(&impostor.held_out).unwrap().value < 0.2);
    }
}
