// A browser for the tests of the page. Needs Chromium (CHROMIUM, else /usr/bin/chromium) and the address of a running server in
// TWIN_URL. With TWIN_SCREENSHOTS set to a folder, pictures are left there.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before } from "node:test";
import { chromium } from "playwright-core";

export const url = process.env.TWIN_URL ?? "http://127.0.0.1:8080";
const pictures = process.env.TWIN_SCREENSHOTS;
export const PHONE = { width: 390, height: 844 };
export const DESK = { width: 1280, height: 800 };
// A small model on a busy machine takes its time.
export const ANSWERED = { timeout: 180_000 };

let browser;

before(async () => {
  if (pictures) await mkdir(pictures, { recursive: true });
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
});

after(() => browser?.close());

// Opens the page as a new visitor. `problems` collects what the browser complains about and every request that leaves the server.
export async function visit(viewport, colorScheme, at = url) {
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

export async function picture(page, name) {
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`) });
}
