// @ts-check
// The page's main path in Firefox and WebKit, and what it says where an engine lacks something. Each engine opens the
// page once for most tests, which follow each other as in a visit. docs/browsers.md has what each engine lacks.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after } from "node:test";
import {
  asBase64,
  EMBEDDED,
  expected,
  fixtureFiles,
  maxDifference,
  PLAIN_SITE,
  SITE,
  test,
} from "../browser/harness.js";
import { openFirefox } from "./firefox.js";
import { openPlainWebKit, openWebKit } from "./webkit.js";

/** @import { DrivenPage } from "./driven.d.ts" */

/**
 * An engine, and what the page says in it.
 * @typedef {object} Engine
 * @property {string} name
 * @property {() => Promise<DrivenPage>} open
 * @property {RegExp} features  the line of features in use
 * @property {RegExp[]} lacks  the reasons why features are not used
 * @property {RegExp} storing  whether the weights are stored
 */

const NO_WEBGPU = /^CPU: WebGPU is not available: this browser has no WebGPU\.$/;
const NO_RELAXED_SIMD = /^SIMD128: this browser has no relaxed SIMD\.$/;
const NO_SHARED_MEMORY = /^1 thread: this browser has no shared WebAssembly memory\.$/;
const STORED = / · stored on this device$/;
const NOT_STORED = / · not stored: this browser provides no storage here$/;

/** @type {Engine} */
const FIREFOX = {
  name: "Firefox",
  open: openFirefox,
  features: /^CPU · relaxed SIMD · 2 threads · isolated$/,
  lacks: [NO_WEBGPU],
  storing: STORED,
};
/** @type {Engine} */
const WEBKIT = {
  name: "WebKit",
  open: openWebKit,
  features: /^CPU · SIMD128 · 2 threads · isolated$/,
  lacks: [NO_WEBGPU, NO_RELAXED_SIMD],
  storing: NOT_STORED,
};
/** @type {Engine} */
const PLAIN_WEBKIT = {
  name: "WebKitGTK's own settings",
  open: openPlainWebKit,
  features: /^CPU · SIMD128 · 1 thread · isolated$/,
  lacks: [NO_WEBGPU, NO_RELAXED_SIMD, NO_SHARED_MEMORY],
  storing: NOT_STORED,
};

const FIXTURE = "two_blocks_groups2_rope";

/** For one step on a busy machine. */
const WAIT_MS = 90_000;
/** Tokens of the run that Inside looks at. */
const N_GREEDY = 12;

/** A template whose conversations the embedded model can continue. */
const TEMPLATE =
  "{% for m in messages %}## {{ m.role }}\n{{ m.content }}\n{% endfor %}"
  + "{% if add_generation_prompt %}## assistant\n{% endif %}";

/**
 * Waits until a value is truthy, and gives it.
 * @template T @param {string} what @param {() => T | Promise<T>} read @returns {Promise<T>}
 */
async function until(what, read) {
  const give_up_ms = Date.now() + WAIT_MS;
  for (;;) {
    const value = await read();
    if (value) return value;
    if (Date.now() > give_up_ms) throw new Error(`after ${WAIT_MS / 1000} s still waiting: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

/** @param {DrivenPage} page @param {string} selector */
const text = (page, selector) =>
  page.evaluate((selector) => document.querySelector(selector)?.textContent ?? "", selector);

/** @param {DrivenPage} page @param {string} beginning */
const untilStatus = (page, beginning) =>
  until(`the status "${beginning}"`, async () => (await text(page, "#status")).startsWith(beginning));

/** Sets a field as a user's input does. @param {DrivenPage} page @param {string} selector @param {string} value */
const fill = (page, selector, value) =>
  page.evaluate(
    (selector, value) => {
      const field = /** @type {HTMLInputElement} */ (document.querySelector(selector));
      field.value = value;
      for (const type of ["input", "change"]) field.dispatchEvent(new Event(type, { bubbles: true }));
    },
    selector,
    value,
  );

/**
 * Does what leads to a new status, and waits for it.
 * @param {DrivenPage} page @param {string} beginning @param {() => Promise<unknown>} act
 */
async function toStatus(page, beginning, act) {
  await page.evaluate(() => {
    /** @type {HTMLElement} */ (document.getElementById("status")).textContent = "";
  });
  await act();
  await untilStatus(page, beginning);
}

/** The output without the prompt. @param {DrivenPage} page */
const continuation = (page) => text(page, "#output > span:last-child");

/** @param {DrivenPage} page @param {Record<string, string>} options */
async function setOptions(page, options) {
  for (const [name, value] of Object.entries(options)) await fill(page, `#sampling [name=${name}]`, value);
}

/** Loads the same model on another backend. @param {DrivenPage} page @param {"cpu" | "webgpu"} backend */
async function loadOn(page, backend) {
  await fill(page, "#backend", backend);
  await page.evaluate(() => document.getElementById("load-model")?.click());
}

/** Starts a long run and waits for its first text. @param {DrivenPage} page @param {() => Promise<void>} start */
async function startLongRun(page, start) {
  // The model's most probable text does not end.
  await setOptions(page, { max_tokens: "1500", temperature: "0" });
  await toStatus(page, "Generating", start);
  await until("text", async () => (await continuation(page)).length > 10);
}

/**
 * The file that a click saves.
 * @param {DrivenPage} page @param {string} button
 * @param {string} ending  more than the extension, which Firefox gives its temporary files, too
 */
async function saved(page, button, ending) {
  await page.evaluate((button) => document.querySelector(button)?.closest("details")?.setAttribute("open", ""), button);
  await page.click(button);
  return until(`a file *${ending}`, () => {
    const name = readdirSync(page.downloads).find((name) => name.endsWith(ending));
    // The browsers write under another name and rename that file; Firefox makes an empty one of this name first.
    return name === undefined ? "" : readFileSync(join(page.downloads, name), "utf8");
  });
}

/** Gives the page a checkpoint as files from this device. @param {DrivenPage} page @param {string} template */
const chooseFiles = (page, template) =>
  page.evaluate(
    async (folder, template) => {
      const names = ["config.json", "model.safetensors", "tokenizer.json"];
      const transfer = new DataTransfer();
      for (const name of names) transfer.items.add(new File([await (await fetch(folder + name)).blob()], name));
      const config = JSON.stringify({ bos_token: "<s>", eos_token: "</s>", chat_template: template });
      transfer.items.add(new File([config], "tokenizer_config.json"));
      const input = /** @type {HTMLInputElement} */ (document.getElementById("files-input"));
      input.files = transfer.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    },
    EMBEDDED,
    template,
  );

/** The first logits of a fixture, by the module in the page. @param {DrivenPage} page @returns {Promise<number[][]>} */
const logitsOfFixture = (page) =>
  page.evaluate(
    async (contents, ids) => {
      const { load } = await import(/** @type {any} */ ("/pkg/zamba2.js"));
      const source = Object.entries(contents).map(
        ([name, base64]) => new File([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], name),
      );
      const model = await load({ source, weights: "f32", keep: false });
      const rows = await model.logits(ids);
      model.dispose();
      return rows.map((/** @type {Float32Array} */ row) => [...row]);
    },
    asBase64(fixtureFiles(FIXTURE)),
    expected(FIXTURE).input_ids,
  );

/** The text of the same run in each engine. @type {Record<string, string>} */
const texts = {};

/** @typedef {(fact: string, body: (page: DrivenPage) => Promise<void>) => void} Tests */

/**
 * Declares tests that share a page, and those of its start.
 * @param {Engine} engine @param {(inEngine: Tests) => void} declare
 */
function testsIn({ name, open, features, lacks, storing }, declare) {
  /** @type {Promise<DrivenPage> | undefined} */
  let opened;
  /** @type {Tests} */
  const inEngine = (fact, body) => test(`${name}: ${fact}`, async () => body(await (opened ??= open())));
  after(async () => (await opened?.catch(() => undefined))?.close());

  inEngine("the embedded model loads by itself, and every cell of the strip is ready", async (page) => {
    await page.goto(`${SITE}/?threads=2`);
    await untilStatus(page, "Ready");
    const states = await page.evaluate(() => {
      const cells = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".cell"));
      return [...cells].map(({ dataset }) => dataset.state);
    });
    assert.equal(states.length, 40);
    assert.deepEqual([...new Set(states)], ["ready"]);
  });

  inEngine("the page shows which features are in use, and why not the others", async (page) => {
    assert.match(await text(page, "#capability"), features);
    const reasons = await page.evaluate(() =>
      [...document.querySelectorAll("#capability-reasons li")].map(({ textContent }) => textContent ?? ""),
    );
    for (const pattern of lacks)
      assert.ok(
        reasons.some((reason) => pattern.test(reason)),
        `${pattern}: ${reasons}`,
      );
  });

  inEngine(`the page says that the weights are ${storing === STORED ? "" : "not "}stored`, async (page) => {
    assert.match(await text(page, "#status-detail"), storing);
    const listed = storing === STORED ? /rustdoc-5m · q4/ : /^No model is stored on this device\.$/;
    await until("the list of stored models", async () => listed.test((await text(page, "#kept")).trim()));
  });

  inEngine("Run continues the prompt and shows the run's figures", async (page) => {
    await setOptions(page, { max_tokens: "24", seed: "5" });
    await toStatus(page, "Done", () => page.click("#run"));
    const said = await continuation(page);
    texts[name] = said;
    assert.notEqual(said.trim(), "");
    assert.equal(await page.evaluate(() => document.querySelectorAll("#metrics > div").length), 7);
  });

  declare(inEngine);

  inEngine("the page has logged no error and has reached no other origin", async (page) => {
    assert.deepEqual(await page.faults(), []);
    const strays = page.requests.filter((address) => {
      const { origin, protocol } = new URL(address);
      return ![SITE, PLAIN_SITE].includes(origin) && !["data:", "blob:", "about:"].includes(protocol);
    });
    assert.ok(page.requests.length > 50);
    assert.deepEqual(strays, []);
  });
}

/** @param {Tests} inEngine */
function mainPath(inEngine) {
  inEngine("Stop ends a run and keeps its text", async (page) => {
    await startLongRun(page, () => page.click("#run"));
    await toStatus(page, "Done", () => page.click("#run"));
    assert.match(await text(page, "#status"), /stopped/);
    assert.ok((await continuation(page)).length > 10);
  });

  inEngine("Ctrl+Enter runs, and Escape stops", async (page) => {
    await startLongRun(page, () => page.press("#prompt", "Enter", "Control"));
    await toStatus(page, "Done", () => page.press("#prompt", "Escape"));
    assert.match(await text(page, "#status"), /stopped/);
  });

  inEngine("nothing overflows horizontally in a narrow or a wide window, in either language", async (page) => {
    for (const width of [390, 1280]) {
      await page.setWidth(width);
      for (const language of ["ru", "en"]) {
        await page.click("#language");
        await until(language, () => page.evaluate((code) => document.documentElement.lang === code, language));
        const overflow = () =>
          page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.equal(await overflow(), 0, `${width} px, ${language}`);
      }
    }
  });

  inEngine("Profile measures the model and draws its charts", async (page) => {
    await page.click("#tab-profile");
    await fill(page, "#profile-form [name=runs]", "2");
    await fill(page, "#profile-form [name=decode]", "4");
    await page.click("#profile-run");
    await until("the measurement", async () => (await text(page, "#profile-status")).startsWith("Measured"));
    await until("the charts", () => page.evaluate(() => document.querySelector("#chart-memory .plot") !== null));
    const widths = await page.evaluate(() =>
      [...document.querySelectorAll("#profile-result svg.plot")].map((plot) => plot.getBoundingClientRect().width),
    );
    assert.equal(widths.length, 5);
    assert.ok(Math.min(...widths) > 100, `${widths}`);
  });

  inEngine("a profile is saved as Markdown, CSV, a run file and a trace", async (page) => {
    assert.match(await saved(page, "[data-format=markdown]", "-tokens.md"), /^# /);
    assert.match(await saved(page, "[data-format=csv]", "-tokens.csv"), /,/);
    const trace = JSON.parse(await saved(page, "[data-format=trace]", "-tokens.trace.json"));
    assert.ok(trace.traceEvents.length > 100);
    const run = JSON.parse(await saved(page, "[data-format=json]", "-tokens.json"));
    assert.equal(run.schema, "zamba2-run/1");
    assert.equal(run.conditions.host, await page.evaluate(() => navigator.userAgent));
  });

  inEngine(
    "Inside shows the lens map of the last run, whose last row names the tokens that came next",
    async (page) => {
      await page.click("#tab-playground");
      await setOptions(page, { max_tokens: `${N_GREEDY}`, temperature: "0" });
      await toStatus(page, "Done", () => page.click("#run"));
      await page.click("#tab-inside");
      await until("the lens map", () =>
        page.evaluate(() => {
          const progress = /** @type {HTMLElement} */ (document.getElementById("inside-progress"));
          return progress.hidden && document.querySelector("#chart-lens .plot") !== null;
        }),
      );
      const seen = JSON.parse(await saved(page, "#inside-json", "inside.json"));
      const last = seen.lens.at(-1);
      // The run chose the most probable token each time; the prompt did not.
      const first = seen.ids.length - N_GREEDY - 1;
      const chosen = [...seen.positions.entries()].filter(([, at]) => at >= first && at + 1 < seen.ids.length);
      assert.ok(chosen.length >= N_GREEDY - 1, `${seen.positions}`);
      for (const [row, at] of chosen) assert.equal(last[row][0].token, seen.ids[at + 1], `position ${at}`);
      const n_cells = await page.evaluate(() => document.querySelectorAll("#chart-lens .shade").length);
      assert.ok(n_cells > 0 && n_cells % seen.lens.length === 0, `${n_cells} cells`);
    },
  );

  inEngine("choosing WebGPU leads to an error card with the reason and the next step", async (page) => {
    await page.click("#tab-playground");
    await toStatus(page, "Ready", () => loadOn(page, "webgpu"));
    const card = await text(page, ".error-card[data-code=no_webgpu]");
    assert.match(card, /WebGPU is not available: this browser has no WebGPU/);
    assert.match(card, /Choose the CPU/);
  });

  inEngine("files from this device load, and a conversation goes through their chat template", async (page) => {
    await toStatus(page, "Ready", () => loadOn(page, "cpu"));
    await toStatus(page, "Ready", () => chooseFiles(page, TEMPLATE));
    await setOptions(page, { max_tokens: "12" });
    for (const question of ["What is ownership?", "And a trait?"]) {
      await fill(page, "#prompt", question);
      await toStatus(page, "Done", () => page.click("#run"));
    }
    const turns = await page.evaluate(() => document.getElementById("turns")?.children.length);
    assert.equal(turns, 4);
  });

  inEngine("logits are the reference implementation's", async (page) => {
    // The tolerance of the model tests in f32.
    const logits = (await logitsOfFixture(page)).flat();
    assert.ok(maxDifference(logits, expected(FIXTURE).prefill_logits.values) < 2e-3);
  });
}

/** @param {Tests} inEngine @param {RegExp} features */
const isolatesItself = (inEngine, features) =>
  inEngine("on a server without isolation headers, the service worker isolates the page", async (page) => {
    await page.goto(`${PLAIN_SITE}/`);
    await untilStatus(page, "Ready");
    assert.match(await text(page, "#capability"), features);
  });

testsIn(FIREFOX, (inEngine) => {
  mainPath(inEngine);

  inEngine("a second visit reads the weights from the device", async (page) => {
    const before = page.requests.length;
    await page.goto(`${SITE}/`);
    await untilStatus(page, "Ready");
    assert.match(await text(page, "#status-detail"), STORED);
    const requests = page.requests.slice(before);
    assert.ok(
      requests.some((address) => address.endsWith("/pkg/worker.js")),
      "requests of workers are reported",
    );
    assert.ok(!requests.some((address) => address.endsWith("/model.safetensors")));
  });

  isolatesItself(inEngine, /^CPU · relaxed SIMD · \d threads? · isolated$/);
});

testsIn(WEBKIT, (inEngine) => {
  mainPath(inEngine);
  isolatesItself(inEngine, /^CPU · SIMD128 · \d threads? · isolated$/);
});

testsIn(PLAIN_WEBKIT, () => {});

test("Firefox and WebKit give the same text, with and without relaxed SIMD, on two threads and on one", () => {
  assert.equal(Object.keys(texts).length, 3);
  assert.equal(new Set(Object.values(texts)).size, 1);
});
