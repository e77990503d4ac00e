// The chat page in a real browser, against a server that runs: what a reader sees and presses, at phone and desk width, light
// and dark. Needs Chromium (CHROMIUM, else /usr/bin/chromium) and the server's address in TWIN_URL. With TWIN_SCREENSHOTS set to
// a folder, it leaves pictures there.

import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const url = process.env.TWIN_URL ?? "http://127.0.0.1:8080";
const pictures = process.env.TWIN_SCREENSHOTS;
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PHONE = { width: 390, height: 844 };
const DESK = { width: 1280, height: 800 };
// A small model on a busy machine takes its time.
const ANSWERED = { timeout: 180_000 };

let browser;

before(async () => {
  if (pictures) await mkdir(pictures, { recursive: true });
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
});

after(() => browser?.close());

// Opens the page as a new visitor. `problems` collects what the browser complains about and every request that leaves the server.
async function visit(viewport, colorScheme, at = url) {
  const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce" });
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => request.url().startsWith(at) || problems.push(`request to ${request.url()}`));
  await page.goto(at);
  await page.locator("#suggestions button").first().waitFor();
  return { context, page, problems };
}

async function picture(page, name) {
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`) });
}

async function fits(page) {
  const { inside, outside } = await page.evaluate(() => ({ inside: document.documentElement.scrollWidth, outside: innerWidth }));
  assert.ok(inside <= outside, `${inside} px of content in a window of ${outside} px`);
}

async function accessible(page, when) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { runOnly: ["wcag2a", "wcag2aa"] }));
  const said = violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" | ")}`);
  assert.deepEqual(said, [], `accessibility ${when}`);
}

async function brightness(page) {
  return page.evaluate(() => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.fillStyle = getComputedStyle(document.body).backgroundColor;
    canvas.fillRect(0, 0, 1, 1);
    return Math.max(...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3));
  });
}

async function askFirstSuggestion(page) {
  await page.locator("#suggestions button", { hasText: "Ask" }).first().click();
  await page.locator(".answer .foot-line").waitFor(ANSWERED);
}

for (const [size, viewport] of [["phone", PHONE], ["desk", DESK]]) {
  for (const scheme of ["light", "dark"]) {
    test(`a question is answered with its sources: ${size}, ${scheme}`, async () => {
      const { context, page, problems } = await visit(viewport, scheme);
      const bright = await brightness(page);
      assert.ok(scheme === "light" ? bright > 200 : bright < 80, `the background of ${scheme} has brightness ${bright}`);
      await fits(page);
      await accessible(page, "on arrival");
      await picture(page, `${size}-${scheme}-welcome`);

      await askFirstSuggestion(page);
      assert.match(await page.locator(".answer .by").innerText(), /AI twin of .+, not the person/);
      await fits(page);
      await accessible(page, "with an answer");
      await picture(page, `${size}-${scheme}-answer`);

      const chip = page.locator(".answer .cite").first();
      await chip.click();
      await page.locator("#sources .current mark").waitFor();
      assert.ok((await page.locator("#sources .current mark").innerText()).length > 10, "the sentence that is cited is marked");
      await fits(page);
      await accessible(page, "with the sources open");
      await picture(page, `${size}-${scheme}-sources`);
      await page.keyboard.press("Escape");
      await page.locator("#sources").waitFor({ state: "hidden" });
      assert.deepEqual(problems, []);
      await context.close();
    });
  }
}

test("a conversation is remembered, opened again and deleted", async () => {
  const { context, page, problems } = await visit(DESK, "light");
  await askFirstSuggestion(page);
  const answer = await page.locator(".answer .body").innerText();
  const rows = page.locator("#conversations .conversation");
  await page.locator("#conversations .conversation.current").waitFor();
  const count = await rows.count();
  await page.reload();
  await rows.first().locator(".open").click();
  await page.locator(".answer .foot-line").waitFor();
  assert.equal(await page.locator(".answer .body").innerText(), answer);
  await rows.first().locator(".remove").click();
  await page.waitForFunction((before) => document.querySelectorAll("#conversations .conversation").length === before - 1, count);
  assert.equal(await page.locator(".answer").count(), 0);
  assert.deepEqual(problems, []);
  await context.close();
});

test("a draft streams and can be stopped, and the next request is served", async () => {
  const { context, page, problems } = await visit(PHONE, "dark");
  await page.locator(".tabs label", { hasText: "Write" }).click();
  await page.locator("#text").fill("A morning at the harbour");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector(".answer .body")?.innerText.split(/\s+/).length > 8, null, ANSWERED);
  await picture(page, "phone-dark-draft");
  await page.locator("#stop").click();
  await page.locator(".answer .note", { hasText: "Stopped" }).waitFor();
  await page.locator("#send").waitFor();
  await page.locator(".tabs label", { hasText: "Ask" }).click();
  await page.locator("#text").fill("What is the weather like on Mars?");
  await page.keyboard.press("Enter");
  await page.locator(".answer .foot-line").nth(0).waitFor(ANSWERED);
  assert.deepEqual(problems, []);
  await context.close();
});

// Lets the twin write and waits until so many words are there.
async function beginDraft(page, title, words) {
  await page.locator(".tabs label", { hasText: "Write" }).click();
  await page.locator("#text").fill(title);
  await page.keyboard.press("Enter");
  return moreWords(page, words);
}

async function moreWords(page, words) {
  await page.waitForFunction((count) => document.querySelector(".answer .body")?.innerText.split(/\s+/).length > count, words, ANSWERED);
  return page.locator(".answer .body").innerText();
}

const firstWords = (text) => text.split(/\s+/).slice(0, 4).join(" ");

test("an answer that is being written goes on after a reload, and stop stops it", async () => {
  const { context, page, problems } = await visit(DESK, "light");
  const before = await beginDraft(page, "A morning at the harbour", 8);
  await page.reload();
  const after = await moreWords(page, 12);
  assert.equal(firstWords(after), firstWords(before));
  assert.equal(await page.locator(".mine").innerText(), "A morning at the harbour");
  await page.locator("#stop").click();
  await page.locator(".answer .note", { hasText: "stopped" }).waitFor();
  const written = await page.locator(".answer .body").innerText();
  await page.reload();
  await page.locator("#conversations .open").first().click();
  await page.locator(".answer .foot-line").waitFor();
  assert.equal(await page.locator(".answer .body").innerText(), written, "what was written is kept");
  assert.deepEqual(problems, []);
  await context.close();
});

test("an answer that was left is found again in its conversation", async () => {
  const { context, page, problems } = await visit(DESK, "light");
  const before = await beginDraft(page, "Low tide in November", 8);
  await page.locator("#new-chat").click();
  assert.equal(await page.locator(".answer").count(), 0);
  await page.locator("#conversations .open", { hasText: "Low tide in November" }).first().click();
  assert.equal(firstWords(await moreWords(page, 10)), firstWords(before));
  await page.locator("#stop").click();
  await page.locator(".answer .note", { hasText: "stopped" }).waitFor();
  assert.deepEqual(problems, []);
  await context.close();
});

// The server's address by a way that can be cut.
async function breakable() {
  const { hostname, port } = new URL(url);
  const open = new Set();
  const way = createServer((from) => {
    const to = connect(Number(port), hostname);
    for (const [socket, other] of [[from, to], [to, from]]) {
      open.add(socket);
      socket.on("error", () => {}).on("close", () => { open.delete(socket); other.destroy(); });
      socket.pipe(other);
    }
  });
  await new Promise((resolve) => { way.listen(0, "127.0.0.1", resolve); });
  const cut = () => open.forEach((socket) => socket.destroy());
  return { at: `http://127.0.0.1:${way.address().port}`, cut, close: () => { cut(); way.close(); } };
}

test("an answer goes on when the connection is lost", async () => {
  const way = await breakable();
  const { context, page, problems } = await visit(DESK, "dark", way.at);
  const before = await beginDraft(page, "What a caulker hears", 8);
  way.cut();
  const after = await moreWords(page, before.split(/\s+/).length + 20);
  assert.equal(firstWords(after), firstWords(before));
  assert.equal(await page.locator(".answer .error").count(), 0);
  await page.locator("#stop").click();
  await page.locator(".answer .note", { hasText: "stopped" }).waitFor();
  // The browser itself says that a connection was lost.
  assert.deepEqual(problems.filter((problem) => !problem.includes("net::ERR")), []);
  await context.close();
  way.close();
});

test("the menu opens and closes on a phone, and a theme that is chosen stays", async () => {
  const { context, page, problems } = await visit(PHONE, "light");
  await page.locator("#menu").click();
  await page.locator("#new-chat").waitFor();
  for (const name of ["Light", "Dark"]) {
    await page.locator("#theme").click();
    await page.locator("#theme-name", { hasText: name }).waitFor();
  }
  await picture(page, "phone-menu");
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => !document.querySelector("#sidebar").classList.contains("open"));
  await page.reload();
  assert.ok((await brightness(page)) < 80, "dark was chosen");
  assert.deepEqual(problems, []);
  await context.close();
});

test("what a reader types is text and never markup", async () => {
  const { context, page, problems } = await visit(DESK, "light");
  const typed = "<img src=x onerror=alert(1)> <script>alert(2)</script>";
  await page.locator("#text").fill(typed);
  await page.keyboard.press("Enter");
  await page.locator(".mine").waitFor();
  assert.equal(await page.locator(".mine").innerText(), typed);
  assert.equal(await page.locator(".mine img, .mine script").count(), 0);
  await page.locator(".answer .foot-line").waitFor(ANSWERED);
  assert.deepEqual(problems, []);
  await context.close();
});
