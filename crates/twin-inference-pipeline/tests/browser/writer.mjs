// A language model for tests: an OpenAI-compatible server that answers everything with the same long text, a few words a second,
// until who asked hangs up. Prints its address.

import { createServer } from "node:http";

const WORDS_PER_SECOND = 10;
const SENTENCES = 400;
const PLACES = ["quay", "slip", "chandlery", "breakwater", "customs house", "ferry stage", "boatyard"];
const HOURS = ["before six", "at first light", "an hour after low water", "towards noon", "when the fog had gone"];

const sentence = (number) => `On day ${number} I stood by the ${PLACES[number % 7]} ${HOURS[number % 5]} and counted ${number + 3} boats. `;
const words = Array.from({ length: SENTENCES }, (_, number) => sentence(number + 1)).join("").match(/\S+\s+/g);

const pause = () => new Promise((resolve) => { setTimeout(resolve, 1000 / WORDS_PER_SECOND); });

const server = createServer(async (request, response) => {
  request.resume();
  response.writeHead(200, { "content-type": "text/event-stream" });
  const say = (choice) => response.write(`data: ${JSON.stringify({ choices: [choice] })}\n\n`);
  for (const content of words) {
    if (response.closed) return;
    say({ delta: { content } });
    await pause();
  }
  say({ delta: {}, finish_reason: "stop" });
  response.end("data: [DONE]\n\n");
});

server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/v1`));
