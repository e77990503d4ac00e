//! `twin models export`: a model version as one model that needs no adapter, for other programs.

use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;
use twin_domain::{ModelRegistry, ModelVersionId};
use twin_models::language::{Adapter, ExportFormat, Sampling};
use twin_models::prompt::{PromptSet, Request};

use crate::args::{ExportModelArguments, ModelForm};
use crate::output;
use crate::wiring::{Wiring, blocking};

#[derive(Serialize)]
struct Exported {
    files: Vec<String>,
    bytes: u64,
}

pub async fn run(wiring: &Wiring, arguments: ExportModelArguments) -> anyhow::Result<()> {
    let ExportModelArguments { model: version, out, form } = arguments;
    let occupied = std::fs::read_dir(&out).is_ok_and(|mut entries| entries.next().is_some());
    anyhow::ensure!(!occupied, "`{}` is not empty: name a new directory", out.display());
    let adapter = version.as_ref().map(|id| adapter_of(wiring, id)).transpose()?;
    let system = match &version {
        Some(id) => system_message(wiring, id).await?,
        None => None,
    };
    let model = wiring.language_model().await?;
    let (models, name) = (Arc::clone(&wiring.models), wiring.config.models.base.clone());
    let (progress, cancel) = (Arc::clone(&wiring.progress), wiring.cancel.clone());
    let exported = blocking(move || -> anyhow::Result<Exported> {
        let source = models.language_model_file(&name, progress.as_ref(), &cancel)?;
        let adapter = adapter.map(|directory| Adapter::load(&directory, &model)).transpose()?;
        let mut files = model.export(adapter.as_ref(), &source, &out, ExportFormat::from(form))?;
        if let [gguf] = files.as_slice() {
            let name = gguf.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let path = out.join("Modelfile");
            let text = modelfile(&name, system.as_deref());
            std::fs::write(&path, text).with_context(|| format!("could not write `{}`", path.display()))?;
            files.push(path);
        }
        let bytes = files.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|file| file.len()).sum();
        Ok(Exported { files: files.iter().map(|file| file.display().to_string()).collect(), bytes })
    });
    output::result(wiring.json, &exported.await?, |exported| {
        exported.files.iter().for_each(output::line);
        output::line(format!("{} in all", output::bytes(exported.bytes)));
    })
}

/// The files of a version that was made for the base that is configured.
fn adapter_of(wiring: &Wiring, id: &ModelVersionId) -> anyhow::Result<std::path::PathBuf> {
    let registry = wiring.registry()?;
    let version = registry.version(id)?;
    let base = wiring.models.base_model(&wiring.config.models.base)?;
    anyhow::ensure!(
        version.base.digest == base.digest,
        "{id} was made for `{}`, and the base that is configured is `{}`: set `models.base`",
        version.base.name,
        base.name
    );
    Ok(registry.open(id)?)
}

/// What the twin is told before every conversation.
async fn system_message(wiring: &Wiring, id: &ModelVersionId) -> anyhow::Result<Option<String>> {
    let author = wiring.store().await?.author(&id.author)?;
    let request = Request::WritePost { title: String::from("-") };
    let messages = PromptSet::builtin()?.render(&author, &request, &[], &[])?;
    Ok(messages.into_iter().next().map(|message| message.content))
}

/// How Ollama runs the model: it takes the chat template from the GGUF file.
fn modelfile(gguf: &str, system: Option<&str>) -> String {
    let Sampling { temperature, repetition_penalty, repetition_window, min_p, .. } = Sampling::draft(1);
    // Ollama reads to the next three quotation marks; there is no way to write them.
    let system =
        system.map(|text| format!("SYSTEM \"\"\"{}\"\"\"\n", text.replace("\"\"\"", "\"\""))).unwrap_or_default();
    format!(
        "FROM ./{gguf}\n{system}PARAMETER temperature {temperature}\nPARAMETER min_p {min_p}\nPARAMETER repeat_penalty \
         {repetition_penalty}\nPARAMETER repeat_last_n {repetition_window}\n"
    )
}

impl From<ModelForm> for ExportFormat {
    fn from(form: ModelForm) -> Self {
        match form {
            ModelForm::Safetensors => Self::Safetensors,
            ModelForm::SafetensorsF32 => Self::SafetensorsF32,
            ModelForm::GgufF16 => Self::GgufF16,
            ModelForm::GgufQ8 => Self::GgufQ8,
            ModelForm::GgufQ4 => Self::GgufQ4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modelfile_cannot_be_broken_out_of() {
        let text = modelfile("model-q8_0.gguf", Some("You are \"\"\"\nFROM elsewhere"));
        assert!(
            text.starts_with("FROM ./model-q8_0.gguf\nSYSTEM \"\"\"You are \"\"\nFROM elsewhere\"\"\"\n"),
            "{text}"
        );
        assert_eq!(text.matches("\"\"\"").count(), 2);
    }
}
