//! `twin features`: the feature views.

use serde_json::json;
use twin_domain::FeatureStore;

use crate::output;
use crate::wiring::Wiring;

pub async fn run(wiring: &Wiring) -> anyhow::Result<bool> {
    let store = wiring.store().await?;
    let serving = store.serving_view()?;
    let mut views = Vec::new();
    for view in store.views()? {
        let id = view.id();
        let mut authors = Vec::new();
        for author in store.authors()? {
            authors.push((author.id.to_string(), store.count(&id, Some(&author.id))?));
        }
        let serves = serving.as_ref() == Some(&id);
        views.push(
            json!({ "id": id, "serving": serves, "view": view, "chunks": store.count(&id, None)?, "authors": authors }),
        );
    }
    output::result(wiring.json, &views, |views| {
        let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let rows = views.iter().map(|view| {
            let made = &view["view"];
            vec![
                text(&view["id"]),
                if view["serving"] == true { "serving" } else { "" }.to_owned(),
                text(&view["chunks"]),
                text(&made["embedder"]),
                format!("{}, {}", text(&made["cleaner"]), text(&made["chunker"])),
            ]
        });
        output::table(&["features", "", "chunks", "embedder", "made by"], rows);
    })?;
    Ok(true)
}
