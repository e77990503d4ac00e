// The same measurements as `twin bench generate`, by llama.cpp through node-llama-cpp, whose package has the binaries:
//
//     npm install node-llama-cpp
//     twin bench generate --peer-command "node eval/generate/peer.mjs"
//
// Arguments: the model's file, threads, the tokens of a prompt, the tokens of the next prompt that begins with the same ones,
// how many tokens answer the first, and the tokens of a text as JSON. Prints one line of JSON.

import {readFileSync} from "node:fs";
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";
import path from "node:path";

// Found from the directory in which it is run, so that this repository needs no packages of its own.
const require = createRequire(pathToFileURL(path.join(process.cwd(), "peer.mjs")));
const entry = require.resolve("node-llama-cpp");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(entry));
const {version} = JSON.parse(readFileSync(path.join(path.dirname(entry), "../package.json"), "utf8"));

const [file, ...rest] = process.argv.slice(2);
const [threads, prompt, next, answer] = rest.slice(0, 4).map(Number);
const text = JSON.parse(rest[4] ?? "[]");
const llama = await getLlama({build: "never", gpu: false, maxThreads: threads, logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath: path.resolve(file)});
const contextSize = Math.min(model.trainContextSize, 4608);
const context = await model.createContext({contextSize, batchSize: 512, threads, flashAttention: process.env.FLASH !== "0"});
const sequence = context.getSequence();

// Tokens without meaning, other ones for every salt.
const tokens = (count, salt) => Array.from({length: count}, (_, i) => 17 + (i * 7919 + salt * 104729) % 40000);
const seconds = () => performance.now() / 1000;
let salt = 1;

// The time to the first token and, for the rest, tokens a second.
async function write(tokens, count) {
    const began = seconds();
    let first, written = 0;
    for await (const _ of sequence.evaluate(tokens, {temperature: 0, yieldEogToken: true})) {
        first ??= seconds();
        if (++written >= count) break;
    }
    return {first: first - began, rate: (written - 1) / (seconds() - first)};
}

async function best(runs, measure) {
    const results = [];
    for (let run = 0; run < runs; run++) {
        await sequence.clearHistory();
        results.push(await measure(salt++));
    }
    return results;
}

const report = {prefill: {}, decode: {}};
await best(1, (salt) => write(tokens(64, salt), 8));
for (const count of [256, 1000, 4000].filter((count) => count < contextSize)) {
    const rates = await best(count > 2000 ? 2 : 3, async (salt) => {
        const began = seconds();
        await sequence.evaluateWithoutGeneratingNewTokens(tokens(count, salt));
        return count / (seconds() - began);
    });
    report.prefill[count] = Math.max(...rates);
}
for (const count of [8, 1000]) {
    const runs = await best(3, (salt) => write(tokens(count, salt), 64));
    report.decode[count] = Math.max(...runs.map((run) => run.rate));
}
const cold = await best(2, async (salt) => {
    const {first} = await write(tokens(prompt, salt), answer);
    // Its own reuse of what it has read: only what is new is given.
    const known = sequence.nextTokenIndex;
    const {first: second} = await write(tokens(Math.max(next - known, 1), salt + 1000), 1);
    return {first, second};
});
report.first_token_cold = Math.min(...cold.map((run) => run.first));
report.first_token_next = Math.min(...cold.map((run) => run.second));
if (text.length > 1) {
    await sequence.clearHistory();
    // All of the distribution, as the model has it.
    const options = {temperature: 1, topK: 0, topP: 1, minP: 0};
    const asked = text.slice(0, -1).map((token) => [token, {generateNext: {probabilities: true, options}}]);
    const seen = await sequence.controlledEvaluate(asked);
    const nats = seen.map(({next}, index) => -Math.log(next.probabilities.get(text[index + 1])));
    report.perplexity = Math.exp(nats.reduce((sum, value) => sum + value, 0) / nats.length);
}
report.peak_memory_mb = Math.round(process.resourceUsage().maxRSS / 1024);
console.log(JSON.stringify({name: `llama.cpp (node-llama-cpp ${version})`, figures: report}));
process.exit(0);
