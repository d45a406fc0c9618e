// @ts-check
// Measures the host's part of a decode step in Chromium on a graphics adapter: the time from the arrival of one
// readback to the next readback request, within it from the first command to the last, and the bytes uploaded. It is
// not part of the page or the tests, and needs a served page:
//
//   cargo xtask serve        # in another terminal
//   node tools/bench/encoding.js http://127.0.0.1:8080 [--weights q4] [--tokens 24]
//
// On a machine without a GPU it uses Chromium's software adapter, whose own time is not representative; the host time
// does not depend on the adapter. It prints one line of JSON.

import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const {
  positionals: [site],
  values,
} = parseArgs({
  allowPositionals: true,
  options: { weights: { type: "string", default: "q4" }, tokens: { type: "string", default: "24" } },
});
if (!site) throw new Error("usage: node tools/bench/encoding.js URL");

/** Runs at the start of the engine's worker and records its WebGPU calls. */
const RECORDER = `{
const records = [];
let arrived_ms = 0, first_ms = 0, dispatches = 0, uploaded_bytes = 0;
const { mapAsync } = GPUBuffer.prototype;
GPUBuffer.prototype.mapAsync = function (...args) {
  const now_ms = performance.now();
  records.push({ host_ms: now_ms - arrived_ms, encoding_ms: now_ms - first_ms, dispatches, uploaded_bytes });
  first_ms = dispatches = uploaded_bytes = 0;
  return mapAsync.apply(this, args).then((mapped) => { arrived_ms = performance.now(); return mapped; });
};
const { dispatchWorkgroups } = GPUComputePassEncoder.prototype;
GPUComputePassEncoder.prototype.dispatchWorkgroups = function (...args) {
  dispatches += 1;
  return dispatchWorkgroups.apply(this, args);
};
const { writeBuffer } = GPUQueue.prototype;
GPUQueue.prototype.writeBuffer = function (...args) {
  const [, , data, , size] = args;
  uploaded_bytes += size ?? data.byteLength;
  return writeBuffer.apply(this, args);
};
const { createCommandEncoder } = GPUDevice.prototype;
GPUDevice.prototype.createCommandEncoder = function (...args) {
  first_ms ||= performance.now();
  return createCommandEncoder.apply(this, args);
};
const channel = new BroadcastChannel("records");
channel.onmessage = () => channel.postMessage(records);
}
`;

const browser = await chromium.launch({
  executablePath: process.env.ZAMBA2_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--enable-unsafe-webgpu"],
});
try {
  const context = await browser.newContext();
  await context.route("**/pkg/worker.js", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: RECORDER + (await response.text()) });
  });
  const page = await context.newPage();
  const module = new URL("/pkg/zamba2.js", site).href;
  await page.goto(module);
  const result = await page.evaluate(
    async ({ module, weights, tokens }) => {
      const model = await (
        await import(module)
      ).load({ source: "/www/models/rustdoc-5m/", backend: "webgpu", weights, keep: false });
      const options = { temperature: 0.7, top_k: 40, max_tokens: tokens + 2, ignore_eos: true };
      for await (const _ of model.generate("Ownership is", options));
      const channel = new BroadcastChannel("records");
      /** @type {Promise<{ host_ms: number, encoding_ms: number, dispatches: number, uploaded_bytes: number }[]>} */
      const received = new Promise((resolve) => {
        channel.onmessage = ({ data }) => resolve(data);
      });
      channel.postMessage("");
      const records = (await received).slice(-tokens);
      const { adapter } = model.info;
      const token_ms = model.last.gap_ms_p50;
      model.dispose();
      return { adapter: adapter.name, token_ms, records };
    },
    { module, weights: values.weights, tokens: Number(values.tokens) },
  );
  /** @param {"host_ms" | "encoding_ms" | "uploaded_bytes"} of */
  const median = (of) => result.records.map((record) => record[of]).sort((a, b) => a - b)[result.records.length >> 1];
  const { dispatches } = result.records[0];
  console.log(
    JSON.stringify({
      adapter: result.adapter,
      dispatches,
      host_ms: median("host_ms"),
      encoding_ms: median("encoding_ms"),
      uploaded_bytes: median("uploaded_bytes"),
      token_ms: result.token_ms,
    }),
  );
} finally {
  await browser.close();
}
