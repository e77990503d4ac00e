// The chat page. Everything that comes from authors, readers and models is put on the page as text, never as HTML.

const $ = (id) => document.getElementById(id);
const state = { authors: [], author: null, conversation: null, running: null, suggested: [] };

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// ---- Talking to the server ----

async function api(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { ...(options.body && { "content-type": "application/json" }), ...(key && { authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401 && (await askForKey())) return api(path, options);
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new Error(body?.error?.message ?? `The server answered ${response.status}.`);
  }
  return response;
}

function askForKey() {
  const dialog = $("key-dialog");
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      sessionStorage.setItem("key", $("key").value);
      resolve($("key").value !== "");
    }, { once: true });
  });
}

// Server-sent events of a POST, which EventSource cannot make.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer += value;
    let end;
    while ((end = buffer.indexOf("\n\n")) >= 0) {
      const lines = buffer.slice(0, end).split("\n");
      buffer = buffer.slice(end + 2);
      const name = lines.find((line) => line.startsWith("event:"))?.slice(6).trim();
      const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (name && data) yield { name, data: JSON.parse(data) };
    }
  }
}

// ---- Authors ----

async function loadAuthors() {
  state.authors = await (await api("/api/authors")).json();
  const picker = $("author");
  picker.replaceChildren(...state.authors.map((author) => {
    const option = element("option", "", author.name);
    option.value = author.id;
    return option;
  }));
  if (!state.authors.length) {
    $("welcome-name").textContent = "Nobody is here yet";
    $("welcome-text").textContent = "Bring an author's posts with `twin ingest`, then come back.";
    $("send").disabled = true;
    return;
  }
  chooseAuthor(state.authors.some((a) => a.id === localStorage.getItem("author")) ? localStorage.getItem("author") : state.authors[0].id);
}

function chooseAuthor(id) {
  state.author = state.authors.find((author) => author.id === id) ?? state.authors[0];
  localStorage.setItem("author", state.author.id);
  $("author").value = state.author.id;
  const { release } = state.author;
  $("release").textContent = release ? `release ${release.number} · ${release.model}` : "no voice trained yet";
  $("welcome-name").textContent = state.author.name;
  $("welcome-text").textContent = state.author.description;
  showSuggestions();
}

function showSuggestions() {
  const { suggested_questions: questions, suggested_topics: topics } = state.author;
  const button = (kind, text, mode) => {
    const node = element("button");
    node.type = "button";
    node.append(element("span", "kind", kind), text);
    node.addEventListener("click", () => { setMode(mode); send(text); });
    return node;
  };
  $("suggestions").replaceChildren(
    ...questions.slice(0, 4).map((text) => button("Ask", text, "ask")),
    ...topics.slice(0, 2).map((text) => button("Write", text, "write")),
  );
}

// ---- Conversations ----

async function loadConversations() {
  const list = await (await api("/api/conversations")).json();
  $("conversations").replaceChildren(...list.map((conversation) => {
    const row = element("div", "conversation" + (conversation.id === state.conversation ? " current" : ""));
    const open = element("button", "open", conversation.title);
    open.type = "button";
    open.title = conversation.title;
    open.addEventListener("click", () => openConversation(conversation.id));
    const remove = element("button", "remove", "✕");
    remove.type = "button";
    remove.setAttribute("aria-label", `Delete “${conversation.title}”`);
    remove.addEventListener("click", async () => {
      await api(`/api/conversations/${conversation.id}`, { method: "DELETE" });
      if (conversation.id === state.conversation) newChat();
      loadConversations();
    });
    row.append(open, remove);
    return row;
  }));
}

async function openConversation(id) {
  stop();
  const conversation = await (await api(`/api/conversations/${id}`)).json();
  newChat();
  state.conversation = id;
  chooseAuthor(conversation.author);
  $("welcome").hidden = true;
  for (const message of conversation.messages) {
    if (message.role === "user") addMine(message.content);
    else finish(addAnswer(), { text: message.content, trace: message.trace });
  }
  closeMenu();
  loadConversations();
}

function newChat() {
  stop();
  state.conversation = null;
  $("turns").replaceChildren();
  $("welcome").hidden = false;
  hideSources();
  closeMenu();
}

// ---- Turns ----

function addMine(text) {
  $("turns").append(element("div", "turn mine", text));
}

function addAnswer() {
  const turn = element("article", "turn answer");
  turn.append(element("div", "body"), element("div", "meta"));
  $("turns").append(turn);
  return turn;
}

function atEnd() {
  const log = $("log");
  return log.scrollHeight - log.scrollTop - log.clientHeight < 120;
}

function toEnd() {
  $("log").scrollTop = $("log").scrollHeight;
}

function request(text) {
  if (mode() === "ask") return { task: "ask", question: text };
  return $("kind").value === "continue" ? { task: "continue", opening: text } : { task: "write_post", title: text };
}

async function send(text) {
  text = text.trim();
  if (!text || state.running || !state.author) return;
  $("welcome").hidden = true;
  $("text").value = "";
  grow();
  addMine(text);
  const turn = addAnswer();
  const body = turn.querySelector(".body");
  turn.classList.add("busy");
  body.append(element("span", "thinking", mode() === "ask" ? "Reading the posts… " : "Looking for related posts… "));
  toEnd();
  const abort = new AbortController();
  state.running = abort;
  busy(true);
  let written = null;
  try {
    const message = { author: state.author.id, request: request(text), conversation: state.conversation };
    const response = await api("/api/chat", { method: "POST", body: JSON.stringify(message), signal: abort.signal });
    for await (const { name, data } of events(response)) {
      const follow = atEnd();
      if (name === "token") {
        if (!written) {
          written = document.createTextNode("");
          body.replaceChildren(written);
        }
        written.data += data.text;
      } else if (name === "done") {
        state.conversation = data.conversation;
        finish(turn, data);
      } else if (name === "error") {
        throw new Error(data.error.message);
      }
      if (follow) toEnd();
    }
  } catch (error) {
    if (error.name === "AbortError") turn.querySelector(".meta").append(element("span", "", "stopped"));
    else body.append(element("p", "error", error.message));
    body.querySelector(".thinking")?.remove();
  } finally {
    turn.classList.remove("busy");
    if (state.running === abort) {
      state.running = null;
      busy(false);
    }
    loadConversations();
  }
}

function stop() {
  state.running?.abort();
}

function busy(on) {
  $("send").hidden = on;
  $("stop").hidden = !on;
}

// The finished answer: sentences with their citations in place of the streamed text.
function finish(turn, { text, label, trace }) {
  const body = turn.querySelector(".body");
  body.replaceChildren();
  for (const piece of trace?.pieces ?? [{ text, support: "no_claim", citations: [] }]) {
    let place = body;
    let words = piece.text;
    if (piece.support === "quotation") {
      place = element("blockquote");
      words = words.trim().replace(/^> /, "");
      body.append(place);
    }
    const bare = words.trimEnd();
    const sentence = element("span", piece.support === "unsupported" ? "unsupported" : "", bare);
    if (piece.support === "unsupported") sentence.title = "No passage of the author says this.";
    place.append(sentence);
    for (const number of piece.citations) place.append(citation(turn, trace, number, piece.evidence));
    place.append(document.createTextNode(words.slice(bare.length)));
  }
  turn.querySelector(".meta").replaceChildren(...facts(turn, text, label, trace));
}

function citation(turn, trace, number, evidence) {
  const button = element("button", "cite", String(number));
  button.type = "button";
  button.setAttribute("aria-label", `Source ${number}`);
  button.addEventListener("click", () => showSources(trace, number, evidence));
  return button;
}

function facts(turn, text, label, trace) {
  const nodes = [element("span", "ai", "AI twin")];
  nodes[0].title = label ?? "Written by an AI twin, not by the person.";
  if (trace?.passages?.length) {
    const sources = element("button", "quiet sources", `${trace.passages.length} sources`);
    sources.type = "button";
    sources.addEventListener("click", () => showSources(trace));
    nodes.push(sources);
  }
  const copy = element("button", "quiet copy", "Copy");
  copy.type = "button";
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(`${text}\n\n(${label ?? "Written by an AI twin, not by the person."})`);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  nodes.push(copy);
  if (trace) nodes.push(details(trace));
  return nodes;
}

function details(trace) {
  const node = element("details", "trace");
  node.append(element("summary", "", "How this was made"));
  const list = element("dl");
  const rows = [
    ["model", trace.model ?? trace.base], ["release", trace.release ?? "none"], ["features", trace.feature_view],
    ["prompt", trace.prompt], ["seed", trace.sampling.seed],
    ["tokens", `${trace.prompt_tokens} read, ${trace.new_tokens} written, ${trace.tokens_per_second.toFixed(0)} a second`],
    ["time", `${trace.retrieval_seconds.toFixed(2)} s to search, ${trace.first_token_seconds.toFixed(2)} s to the first word, ${trace.total_seconds.toFixed(2)} s in all`],
  ];
  for (const [name, value] of rows) list.append(element("dt", "", name), element("dd", "", String(value)));
  node.append(list);
  return node;
}

// ---- Sources ----

function showSources(trace, number, evidence) {
  $("source-list").replaceChildren(...trace.passages.map((passage) => {
    const item = element("li", "source" + (passage.number === number ? " current" : ""));
    item.append(element("h3", "", `${passage.number}. ${passage.document.title}`));
    const where = element("p", "where", [passage.document.date, passage.heading_path.join(" › ")].filter(Boolean).join(" · ") + " ");
    if (/^https?:\/\//.test(passage.document.url)) {
      const link = element("a", "", "open the post");
      link.href = passage.document.url;
      link.rel = "noopener noreferrer nofollow";
      link.target = "_blank";
      where.append(link);
    }
    const text = element("p", "passage");
    highlight(text, passage.text.trim(), passage.number === number ? evidence : null);
    item.append(where, text);
    return item;
  }));
  $("sources").hidden = false;
  $("shell").classList.add("with-sources");
  $("source-list").querySelector(".current")?.scrollIntoView({ block: "nearest" });
  $("source-list").querySelector("mark")?.scrollIntoView({ block: "nearest" });
}

function highlight(node, text, part) {
  const start = part ? text.indexOf(part.trim()) : -1;
  if (start < 0) {
    node.textContent = text;
    return;
  }
  const end = start + part.trim().length;
  node.append(text.slice(0, start), element("mark", "", text.slice(start, end)), text.slice(end));
}

function hideSources() {
  $("sources").hidden = true;
  $("shell").classList.remove("with-sources");
}

// ---- Mode, theme, menu ----

function mode() {
  return document.querySelector("input[name=mode]:checked").value;
}

function setMode(value) {
  document.querySelector(`input[name=mode][value=${value}]`).checked = true;
  const write = value === "write";
  $("kind").hidden = !write;
  $("send").textContent = write ? "Write" : "Ask";
  const placeholder = !write ? "Ask a question" : $("kind").value === "continue" ? "Your own beginning" : "The title of a post";
  $("text").placeholder = placeholder;
  $("text").setAttribute("aria-label", placeholder);
}

function grow() {
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight + 2}px`;
}

const THEMES = ["system", "light", "dark"];

function setTheme(theme) {
  if (theme === "system") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  $("theme").textContent = `Theme: ${theme}`;
}

function openMenu() {
  $("sidebar").classList.add("open");
  $("veil").hidden = false;
  $("menu").setAttribute("aria-expanded", "true");
  $("close-menu").focus();
}

function closeMenu() {
  $("sidebar").classList.remove("open");
  $("veil").hidden = true;
  $("menu").setAttribute("aria-expanded", "false");
}

// ---- Begin ----

$("composer").addEventListener("submit", (event) => { event.preventDefault(); send($("text").value); });
$("text").addEventListener("input", grow);
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send($("text").value);
  }
});
$("stop").addEventListener("click", stop);
$("new-chat").addEventListener("click", () => { newChat(); loadConversations(); $("text").focus(); });
$("author").addEventListener("change", (event) => { newChat(); chooseAuthor(event.target.value); });
$("kind").addEventListener("change", () => setMode(mode()));
document.querySelectorAll("input[name=mode]").forEach((input) => input.addEventListener("change", () => setMode(input.value)));
$("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(localStorage.getItem("theme") ?? "system") + 1) % 3]));
$("menu").addEventListener("click", openMenu);
$("close-menu").addEventListener("click", closeMenu);
$("veil").addEventListener("click", closeMenu);
$("close-sources").addEventListener("click", hideSources);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  closeMenu();
  hideSources();
});

setTheme(THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "system");
setMode("ask");
try {
  await loadAuthors();
  await loadConversations();
} catch (error) {
  $("welcome-name").textContent = "The server cannot be reached";
  $("welcome-text").textContent = error.message;
}
