//! `twin doctor`: what is in force, and whether each part can be reached.

use serde_json::json;
use twin_domain::ModelRegistry;

use crate::output;
use crate::wiring::Wiring;

/// A part and how it is.
struct Finding {
    part: &'static str,
    good: bool,
    detail: String,
}

pub async fn run(wiring: &Wiring) -> anyhow::Result<bool> {
    let mut findings = vec![models(wiring)];
    findings.push(finding("warehouse", warehouse(wiring).await));
    findings.push(finding("feature store", features(wiring).await));
    findings.push(finding("model registry", registry(wiring)));
    let well = findings.iter().all(|finding| finding.good);
    let as_json = json!({
        "config": wiring.config,
        "findings": findings.iter().map(|f| json!({ "part": f.part, "good": f.good, "detail": f.detail })).collect::<Vec<_>>(),
    });
    output::result(wiring.json, &as_json, |_| {
        output::line(toml::to_string(&wiring.config).unwrap_or_else(|error| error.to_string()));
        let rows = findings.iter().map(|Finding { part, good, detail }| {
            vec![(*part).to_owned(), if *good { "good" } else { "bad" }.to_owned(), detail.clone()]
        });
        output::table(&["part", "", ""], rows);
    })?;
    Ok(well)
}

fn finding(part: &'static str, checked: anyhow::Result<String>) -> Finding {
    match checked {
        Ok(detail) => Finding { part, good: true, detail },
        Err(error) => Finding { part, good: false, detail: format!("{error:#}") },
    }
}

fn models(wiring: &Wiring) -> Finding {
    let statuses = wiring.models.cache().statuses();
    let missing: Vec<&str> =
        statuses.iter().filter(|status| !status.is_present()).map(|status| status.entry.name).collect();
    let place = wiring.config.models.cache_dir.display();
    let detail = match missing.as_slice() {
        [] => format!("all {} entries are in {place}", statuses.len()),
        missing => format!("{} not in {place}; `twin models pull` fetches them", missing.join(", ")),
    };
    Finding { part: "models", good: missing.is_empty(), detail }
}

async fn warehouse(wiring: &Wiring) -> anyhow::Result<String> {
    wiring.warehouse().await?;
    Ok(wiring.config.warehouse().display().to_string())
}

async fn features(wiring: &Wiring) -> anyhow::Result<String> {
    let store = wiring.store().await?;
    let authors = store.authors()?.len();
    Ok(match store.serving_view()? {
        Some(view) => format!("{view} serves {} chunks of {authors} authors", store.count(&view, None)?),
        None => "empty: `twin ingest` an author's posts".to_owned(),
    })
}

fn registry(wiring: &Wiring) -> anyhow::Result<String> {
    let registry = wiring.registry()?;
    let mut serving = Vec::new();
    for author in registry.authors()? {
        serving.extend(registry.serving(&author)?.map(|release| release.model.to_string()));
    }
    Ok(if serving.is_empty() { "no release serves".to_owned() } else { format!("serving {}", serving.join(", ")) })
}
