// The chat page: authors, conversations, turns, and what the reader can press.

import { answerFoot, renderAnswer } from "/answer.js";
import { button, byId, element, icon, portrait } from "/element.js";
import { Refusal, answerEvents, api } from "/server.js";
import { hideSources, showSources } from "/sources.js";

const state = { authors: [], author: null, conversation: null, running: null };

// ---- Authors ----

async function loadAuthors() {
  state.authors = await (await api("/api/authors")).json();
  byId("author").replaceChildren(...state.authors.map((author) => {
    const option = element("option", "", author.name);
    option.value = author.id;
    return option;
  }));
  if (!state.authors.length) {
    byId("welcome-name").textContent = "Nobody is here yet";
    byId("welcome-text").textContent = "Bring an author's posts with “twin ingest”, then come back.";
    byId("send").disabled = true;
    return;
  }
  chooseAuthor(localStorage.getItem("author"));
}

function chooseAuthor(id) {
  state.author = state.authors.find((author) => author.id === id) ?? state.authors[0];
  const { id: chosen, name, description, release } = state.author;
  localStorage.setItem("author", chosen);
  byId("author").value = chosen;
  byId("release").textContent = release ? `voice ${release.model.split("@")[1]} · release ${release.number}` : "no voice trained yet";
  byId("welcome-name").textContent = name;
  byId("welcome-text").textContent = description;
  portrait(byId("portrait"), name);
  document.title = `${name} · LLM Twin`;
  showSuggestions();
  setMode(mode());
}

function showSuggestions() {
  const { suggested_questions: questions, suggested_topics: topics } = state.author;
  const suggestion = (kind, text, how) => {
    const node = button("suggestion", text, () => { setMode(how); byId("kind").value = "write_post"; send(text); }, element("span", "kind", kind), element("span", "", text));
    node.setAttribute("aria-label", `${kind}: ${text}`);
    // Whoever points at a question may be about to ask it.
    if (how === "ask") node.addEventListener("pointerenter", () => readAhead(text, PAUSE));
    return node;
  };
  byId("suggestions").replaceChildren(
    ...questions.slice(0, 4).map((text) => suggestion("Ask", text, "ask")),
    ...topics.slice(0, 2).map((text) => suggestion("Write", text, "write")),
  );
}

// ---- Conversations ----

async function loadConversations() {
  const list = await (await api("/api/conversations")).json();
  const today = new Date().toDateString();
  const isToday = ({ updated_at: at }) => new Date(at).toDateString() === today;
  const groups = [["Today", list.filter(isToday)], ["Earlier", list.filter((conversation) => !isToday(conversation))]];
  byId("conversations").replaceChildren(...groups.filter(([, rows]) => rows.length).flatMap(([name, rows]) => [
    element("h2", "group", name), ...rows.map(conversationRow),
  ]));
}

function conversationRow(conversation) {
  const author = state.authors.find(({ id }) => id === conversation.author)?.name ?? conversation.author;
  const open = button("open", conversation.title, () => report(openConversation(conversation.id)), element("span", "title", conversation.title), element("span", "who", author));
  const current = conversation.id === state.conversation;
  if (current) open.setAttribute("aria-current", "true");
  const remove = button("icon remove", `Delete “${conversation.title}”`, () => report(removeConversation(conversation.id)), icon("M6 6l12 12M18 6L6 18"));
  return element("div", current ? "conversation current" : "conversation", open, remove);
}

async function removeConversation(id) {
  await api(`/api/conversations/${encodeURIComponent(id)}`, { method: "DELETE" });
  if (id === state.conversation) newChat();
  await loadConversations();
}

async function openConversation(id) {
  const conversation = await (await api(`/api/conversations/${encodeURIComponent(id)}`)).json();
  newChat();
  state.conversation = id;
  chooseAuthor(conversation.author);
  byId("welcome").hidden = true;
  for (const { role, content, answer } of conversation.messages) {
    if (role === "user") addMine(content);
    else finish(addAnswer(), content, answer);
  }
  toEnd();
  if (conversation.answering && conversation.messages.at(-1)?.role !== "assistant") write((signal) => api(answerPath(id), { signal }));
  await loadConversations();
}

// Where the answer that is being written in a conversation can be read and stopped.
function answerPath(id) {
  return `/api/conversations/${encodeURIComponent(id)}/answer`;
}

// The conversation whose answer was being written when the page was left.
async function goOn() {
  const id = sessionStorage.getItem("answering");
  sessionStorage.removeItem("answering");
  if (id) await openConversation(id).catch(() => {}); // It may have been deleted meanwhile.
}

function newChat() {
  leave();
  state.conversation = null;
  byId("turns").replaceChildren();
  byId("welcome").hidden = false;
  hideSources();
  closeMenu();
}

// ---- Turns ----

function addMine(text) {
  byId("turns").append(element("div", "turn mine", text));
}

function addAnswer() {
  const { name } = state.author;
  const head = element("header", "by", portrait(element("span"), name), element("span", "", "AI twin of ", element("strong", "", name), ", not the person"));
  head.firstChild.setAttribute("aria-hidden", "true");
  const turn = element("article", "turn answer", head, element("div", "body"));
  byId("turns").append(turn);
  return turn;
}

// The finished answer: sentences with their citations in place of the streamed text.
function finish(turn, text, answer) {
  const body = turn.querySelector(".body");
  renderAnswer(body, text, answer?.sentences ?? [], (number, evidence) => {
    const passage = answer.passages.find((candidate) => candidate.number === number);
    const chip = button("cite", `Source ${number}: ${passage?.title ?? ""}`, () => showSources(answer.passages, number, evidence), String(number));
    chip.title = passage?.title ?? "";
    return chip;
  });
  // What is said of an answer is said of the conversation's last one, so only that one has the means to say it.
  for (const earlier of document.querySelectorAll("#turns .foot-line .rating")) earlier.remove();
  const conversation = state.conversation;
  const tell = (outcome) => tellOutcome(conversation, outcome);
  const again = () => {
    tell({ outcome: "regenerated" });
    send(turn.previousElementSibling?.textContent ?? "");
  };
  if (answer) turn.append(answerFoot(state.author.name, text, answer, () => showSources(answer.passages), tell, again));
}

// Figures for comparing releases; the reader is not kept waiting for them.
function tellOutcome(conversation, outcome) {
  api("/api/outcomes", { method: "POST", body: JSON.stringify({ conversation, ...outcome }) }).catch(() => {});
}

function request(text) {
  if (mode() === "ask") return { task: "ask", question: text };
  const kind = byId("kind").value;
  if (kind === "continue") return { task: kind, opening: text };
  return kind === "write_section" ? { task: kind, title: byId("title").value.trim(), heading: text } : { task: kind, title: text };
}

// How long somebody has to pause, in milliseconds, unless the question is at its end, and how many words it takes to look for
// something.
const PAUSE = 350;
const LEAST_WORDS = 3;
let pause;

// The server reads ahead what is about to be asked, so that the answer begins sooner. Nobody is told when it does not.
function readAhead(question, wait) {
  clearTimeout(pause);
  if (state.running || !state.author || question.split(/\s+/).length < LEAST_WORDS) return;
  const message = { author: state.author.id, request: { task: "ask", question }, conversation: state.conversation };
  pause = setTimeout(() => api("/api/chat/ahead", { method: "POST", body: JSON.stringify(message) }).catch(() => {}), wait);
}

function readTyped() {
  const text = byId("text").value.trim();
  if (mode() === "ask") readAhead(text, /[?!.]$/.test(text) ? 0 : PAUSE);
}

async function send(text) {
  clearTimeout(pause);
  text = text.trim();
  if (!text || state.running || !state.author) return;
  const asked = request(text);
  byId("welcome").hidden = true;
  byId("text").value = "";
  grow();
  addMine(asked.task === "write_section" ? `${asked.title}: ${text}` : text);
  const message = { author: state.author.id, request: asked, conversation: state.conversation };
  await write((signal) => api("/api/chat", { method: "POST", body: JSON.stringify(message), signal }));
}

// Shows an answer while it is being written; `ask` begins it, or asks for one that was begun.
async function write(ask) {
  const turn = addAnswer();
  turn.querySelector(".body").append(element("p", "thinking", "Reading the posts"));
  turn.classList.add("busy");
  turn.setAttribute("aria-busy", "true");
  toEnd();
  const running = { abort: new AbortController(), path: null, stopped: false };
  state.running = running;
  busy(true);
  try {
    await follow(turn, running, await ask(running.abort.signal));
  } catch (error) {
    if (!running.abort.signal.aborted) await failed(turn, running, error);
  } finally {
    turn.classList.remove("busy");
    turn.removeAttribute("aria-busy");
    if (state.running === running) {
      state.running = null;
      sessionStorage.removeItem("answering");
      busy(false);
    }
    loadConversations().catch(() => {}); // The list is a convenience; the answer has been shown.
  }
}

async function failed(turn, running, error) {
  // It ended while the page could not reach the server: the conversation has it as far as it came.
  if (running.path && error instanceof Refusal && error.status === 404) return openConversation(state.conversation);
  turn.querySelector(".thinking")?.remove();
  turn.append(element("p", "error", error.message));
}

async function follow(turn, running, response) {
  const body = turn.querySelector(".body");
  running.path = response.headers.get("content-location") ?? new URL(response.url).pathname;
  state.conversation = decodeURIComponent(running.path.split("/")[3]);
  sessionStorage.setItem("answering", state.conversation);
  if (running.stopped) stop();
  let written = "";
  let drawn = false;
  const draw = () => {
    drawn = false;
    if (turn.classList.contains("busy")) keepAtEnd(() => renderAnswer(body, written, []));
  };
  for await (const { name, data } of answerEvents(running.path, response, running.abort.signal)) {
    if (name === "retrieval") {
      const count = data.passages.length;
      if (count) body.querySelector(".thinking").textContent = `Found ${count} ${count === 1 ? "passage" : "passages"}, writing`;
    } else if (name === "token") {
      written += data.text;
      if (!drawn) requestAnimationFrame(draw);
      drawn = true;
    } else if (name === "done") {
      turn.classList.remove("busy");
      keepAtEnd(() => finish(turn, data.text, data));
    } else if (name === "error") {
      throw new Error(data.error?.message ?? "something failed inside the server");
    }
  }
}

// The page follows the text as it comes, unless the reader has scrolled away.
function keepAtEnd(change) {
  const log = byId("log");
  const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 120;
  change();
  if (follows) toEnd();
}

function toEnd() {
  byId("log").scrollTop = byId("log").scrollHeight;
}

// Stops the model; what it has written is then the answer.
function stop() {
  const { running } = state;
  if (!running) return;
  running.stopped = true;
  if (running.path) api(running.path, { method: "DELETE" }).catch(() => {}); // It may have ended just now.
}

// Stops reading. The answer goes on for a while, to be found in its conversation.
function leave() {
  state.running?.abort.abort();
  state.running = null;
  sessionStorage.removeItem("answering");
  busy(false);
}

function busy(on) {
  const focused = [byId("send"), byId("stop")].includes(document.activeElement);
  byId("send").hidden = on;
  byId("stop").hidden = !on;
  if (focused) byId(on ? "stop" : "text").focus();
}

function report(promise) {
  promise.catch((error) => byId("turns").append(element("p", "error", error.message)));
}

// ---- Mode, theme, menu ----

function mode() {
  return document.querySelector("input[name=mode]:checked").value;
}

function setMode(value) {
  document.querySelector(`input[name=mode][value=${value}]`).checked = true;
  const write = value === "write";
  const kind = byId("kind").value;
  byId("kind").hidden = !write;
  byId("title").hidden = !write || kind !== "write_section";
  byId("title").required = write && kind === "write_section";
  const asks = { write_post: "The title of a post", write_section: "The heading of the section", write_thread: "The subject of a thread", write_abstract: "The title of a post", continue: "The beginning of a text" };
  const hint = write ? asks[kind] : `Ask ${state.author?.name ?? "the twin"}`;
  byId("text").placeholder = hint;
  byId("text").setAttribute("aria-label", write ? hint : "Your question");
}

function grow() {
  // The only style set by script; the policy on inline styles concerns markup.
  byId("text").style.height = "auto";
  byId("text").style.height = `${byId("text").scrollHeight + 2}px`;
}

const THEMES = ["system", "light", "dark"];

function theme() {
  const stored = localStorage.getItem("theme");
  return THEMES.includes(stored) ? stored : "system";
}

function setTheme(name) {
  localStorage.setItem("theme", name);
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  byId("theme-name").textContent = `${name[0].toUpperCase()}${name.slice(1)} theme`;
}

function openMenu() {
  byId("sidebar").classList.add("open");
  byId("veil").hidden = false;
  byId("menu").setAttribute("aria-expanded", "true");
  byId("close-menu").focus();
}

function closeMenu() {
  if (!byId("sidebar").classList.contains("open")) return;
  byId("sidebar").classList.remove("open");
  byId("veil").hidden = true;
  byId("menu").setAttribute("aria-expanded", "false");
  byId("menu").focus();
}

// ---- Begin ----

byId("composer").addEventListener("submit", (event) => { event.preventDefault(); send(byId("text").value); });
byId("text").addEventListener("input", () => { grow(); readTyped(); });
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("composer").requestSubmit();
  }
});
byId("stop").addEventListener("click", stop);
byId("new-chat").addEventListener("click", () => { newChat(); report(loadConversations()); byId("text").focus(); });
byId("author").addEventListener("change", (event) => { newChat(); chooseAuthor(event.target.value); report(loadConversations()); });
byId("kind").addEventListener("change", () => setMode(mode()));
document.querySelectorAll("input[name=mode]").forEach((input) => input.addEventListener("change", () => setMode(input.value)));
byId("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]));
byId("menu").addEventListener("click", openMenu);
byId("close-menu").addEventListener("click", closeMenu);
byId("veil").addEventListener("click", closeMenu);
byId("close-sources").addEventListener("click", hideSources);
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  closeMenu();
  hideSources();
});

setTheme(theme());
setMode("ask");
try {
  await loadAuthors();
  await loadConversations();
  await goOn();
} catch (error) {
  byId("welcome-name").textContent = "The server cannot be reached";
  byId("welcome-text").textContent = error.message;
}
