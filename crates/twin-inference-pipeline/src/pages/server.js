// Talking to the server.

import { byId } from "/element.js";

export async function api(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { ...options.headers, ...(options.body && { "content-type": "application/json" }), ...(key && { authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401 && (await askForKey())) return api(path, options);
  if (!response.ok) throw new Refusal(response.status, await problem(response));
  return response;
}

// What the server said where it did not do what was asked.
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function problem(response) {
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? `the server answered ${response.status}`;
  return response.status === 429 ? `The twin is busy: ${message}.` : `${message[0].toUpperCase()}${message.slice(1)}.`;
}

let asking = null;

function askForKey() {
  asking ??= new Promise((resolve) => {
    const dialog = byId("key-dialog");
    dialog.addEventListener("close", () => {
      asking = null;
      sessionStorage.setItem("key", byId("key").value);
      resolve(byId("key").value !== "");
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

// The server-sent events of a response: name, data and id. EventSource makes no POST and sends no key.
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
      const field = (name) => lines.find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1).trim();
      const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (field("event") && data) yield { name: field("event"), data: JSON.parse(data), id: field("id") };
    }
  }
}

// How often, and after how many milliseconds, a page asks again for an answer whose connection was lost.
const ATTEMPTS = 5;
const PAUSE = 700;

// The events of an answer until its last one. It is written on the server, so where the connection is lost before, the rest is
// asked for at `path`.
export async function* answerEvents(path, response, signal) {
  let seen;
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    try {
      response ??= await api(path, { signal, headers: seen && { "last-event-id": seen } });
      for await (const event of events(response)) {
        yield event;
        if (event.name === "done" || event.name === "error") return;
        seen = event.id ?? seen;
        attempt = 0;
      }
    } catch (error) {
      if (signal.aborted || error instanceof Refusal) throw error;
    }
    response = null;
    await new Promise((resolve) => { setTimeout(resolve, PAUSE); });
  }
  throw new Error("The connection to the server was lost.");
}
