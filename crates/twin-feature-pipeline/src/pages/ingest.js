// The page on which posts are brought: what is asked, how far it is, what came of it, what there is.

import { button, byId, element } from "/element.js";
import { api, events } from "/server.js";

const number = (value) => value.toLocaleString();
const count = (value, one, many) => `${number(value)} ${value === 1 ? one : many}`;

// ---- The run ----

function stageRow({ stage, done, total, unit, detail }) {
  const bar = document.createElement("progress");
  bar.setAttribute("aria-label", stage);
  if (total) {
    bar.max = total;
    bar.value = done;
  }
  const far = total ? `${number(done)} of ${number(total)} ${unit}` : `${number(done)} ${unit}`;
  return element("div", "stage", element("p", "", element("span", "", stage), element("span", "small", detail ? `${far}, ${detail}` : far)), bar);
}

function figure(name, value) {
  return element("div", "", element("dt", "", name), element("dd", "", typeof value === "number" ? number(value) : value));
}

function folded(title, lines) {
  if (!lines.length) return null;
  return element("details", "", element("summary", "", title), element("ul", "", ...lines.map((line) => element("li", "", line))));
}

// A card says which source it is of where the title above does not.
function reportCard(report, read) {
  const figures = element("dl", "figures",
    figure("found", report.found), figure("new", report.new), figure("changed", report.changed), figure("unchanged", report.unchanged),
    figure("skipped", report.skipped.length), figure("copies", report.duplicates.length), figure("removed", report.removed.length), figure("passages loaded", report.chunks_written));
  const skipped = report.skipped.map(({ what, reason }) => `${what}: ${reason}`);
  const copies = report.duplicates.map(({ what, of, similarity }) => `${what}: ${Math.round(similarity * 100)}% the same as ${of}`);
  const { email_addresses: mails, phone_numbers: phones, keys } = report.masked;
  const masked = mails + phones + keys ? element("p", "small", `Masked: ${count(mails, "e-mail address", "e-mail addresses")}, ${count(phones, "phone number", "phone numbers")}, ${count(keys, "key", "keys")}.`) : null;
  const title = report.source === read ? null : element("h3", "", report.source);
  return element("div", "card", title, figures, masked,
    folded(`Not taken: ${skipped.length + copies.length}`, [...skipped, ...copies]),
    folded(`Taken out, as the source has them no more: ${report.removed.length}`, report.removed),
    folded(`Remarks: ${report.notes.length}`, report.notes),
    report.interrupted ? element("p", "small", "Stopped before the end; bring the same address again to go on.") : null);
}

let wasRunning = false;

function show(state) {
  byId("run").hidden = !state.source;
  byId("run-title").textContent = state.running ? `Reading ${state.source}` : `Read ${state.source}`;
  byId("stages").replaceChildren(...(state.running ? state.stages.map(stageRow) : []));
  byId("reports").replaceChildren(...state.errors.map((text) => element("p", "error", text)), ...state.reports.map((report) => reportCard(report, state.source)));
  byId("begin").disabled = state.running;
  byId("stop").hidden = !state.running;
  if (wasRunning && !state.running) attempt(loadInventory());
  wasRunning = state.running;
}

// The connection is made again for as long as the page is open.
async function watch() {
  for (;;) {
    try {
      for await (const { name, data } of events(await api("/api/ingest/events"))) if (name === "state") show(data);
    } catch { /* The server may be away for a moment. */ }
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

// ---- What there is ----

function dates({ oldest, newest }) {
  if (!oldest) return "no dates";
  return oldest === newest ? oldest : `${oldest} to ${newest}`;
}

function languages({ languages: shares }) {
  return shares.map(({ language, documents }) => `${language === "und" ? "unknown" : language} ${number(documents)}`).join(", ") || "none";
}

function sourceRow(source, stored) {
  const paused = stored?.paused;
  const change = (body, method) => attempt(api(`/api/sources/${source.source}`, { method, body }).then(loadInventory));
  const where = element("div", "where", source.location, element("p", "small", `${source.kind} · ${count(source.documents, "document", "documents")} · ${count(source.words, "word", "words")} · ${dates(source)} · ${languages(source)}${stored?.skips ? ` · ${stored.skips} skipped` : ""}${paused ? " · paused" : ""}`));
  const remove = button("quiet", "Remove", () => { if (confirm(`Remove ${source.location} with its ${source.documents} documents?`)) change(undefined, "DELETE"); });
  const pause = button("quiet", paused ? "Resume" : "Pause", () => change(JSON.stringify({ paused: !paused }), "PATCH"));
  return element("div", "row", where, element("div", "choices", pause, remove));
}

function authorSection(inventory, stored) {
  const again = button("quiet", "Read all sources again", () => attempt(api("/api/ingest/sync", { method: "POST", body: JSON.stringify({ author: inventory.author }) })));
  const weak = inventory.weaknesses.length ? [element("h3", "", "What a twin will be weak on"), element("ul", "weak", ...inventory.weaknesses.map(({ message }) => element("li", "", message)))] : [];
  return element("section", "", element("h2", "", inventory.author),
    element("dl", "figures", figure("documents", inventory.documents), figure("words", inventory.words), figure("dates", dates(inventory)), figure("languages", languages(inventory))),
    ...weak,
    element("h3", "", "Sources"),
    ...inventory.sources.map((source) => sourceRow(source, stored.find(({ id }) => id === source.source))),
    element("div", "actions", again));
}

async function loadInventory() {
  const [inventories, stored] = await Promise.all(["/api/inventory", "/api/sources"].map(async (path) => (await api(path)).json()));
  byId("inventory").replaceChildren(...inventories.map((inventory) => authorSection(inventory, stored)));
  byId("authors").replaceChildren(...inventories.map(({ author }) => {
    const option = element("option");
    option.value = author;
    return option;
  }));
}

// ---- What can be pressed ----

async function attempt(work) {
  byId("problem").hidden = true;
  try {
    await work;
  } catch (error) {
    byId("problem").textContent = error.message;
    byId("problem").hidden = false;
    byId("problem").scrollIntoView({ block: "nearest" });
  }
}

byId("bring").addEventListener("submit", (event) => {
  event.preventDefault();
  const [source, author, byline] = ["source", "author", "byline"].map((id) => byId(id).value.trim());
  attempt(api("/api/ingest", { method: "POST", body: JSON.stringify({ source, author, ...(byline && { byline }) }) }));
});
byId("stop").addEventListener("click", () => attempt(api("/api/ingest", { method: "DELETE" })));

await attempt(loadInventory());
watch();
