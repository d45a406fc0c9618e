// @ts-check
// Reports through the module in Chromium: a measured run, its summary, its exports, and invalid run files.

import assert from "node:assert/strict";
import { EMBEDDED, openPage, PLAIN_SITE, test, withSharedModule } from "./harness.js";

/** @import { Page } from "playwright-core" */
/** @import { ReferenceReport, Run, Sentence, Summary } from "../../www/engine/report.d.ts" */

/** A small run of the embedded model, with its summary. @param {Page} page @param {object} options */
const measured = (page, options) =>
  page.evaluate(async ([source, options]) => {
    const zamba2 = /** @type {any} */ (globalThis).zamba2;
    const model = await zamba2.load({ source, weights: "q4", threads: 1, keep: false });
    /** @type {unknown[]} */
    const progress = [];
    const run = await model.report({ ...options, onProgress: (/** @type {unknown} */ step) => progress.push(step) });
    const parameters = model.info.parameters;
    model.dispose();
    const summary = await zamba2.summarise(run);
    return { run, summary, progress, parameters };
  }, /** @type {const} */ ([EMBEDDED, options]));

test("a report contains the conditions of its run, and its figures are consistent", () =>
  withSharedModule(async (page) => {
    /** @type {{ run: Run, summary: Summary, progress: any[], parameters: number }} */
    const { run, summary, progress, parameters } = await measured(page, { decode: 4, runs: 2 });
    assert.equal(run.schema, "zamba2-run/1");
    assert.equal(run.model.name, "rustdoc-5m");
    assert.equal(run.model.parameters, parameters);
    assert.equal(run.conditions.threads, 1);
    assert.equal(run.conditions.isolated, true);
    assert.equal(run.conditions.hidden_ms, 0);
    assert.match(run.conditions.host, /Chrome/);
    assert.deepEqual([run.prompt_tokens, run.decode_tokens, run.runs.length, run.unprofiled.length], [35, 4, 2, 2]);
    assert.ok(run.ceilings && run.ceilings.read_gb_per_s > 0);
    assert.deepEqual(
      progress.map(({ phase, run }) => [phase, run]),
      [
        ["ceilings", 0],
        ["warm_up", 0],
        ["runs", 0],
        ["runs", 1],
        ["runs", 2],
      ],
    );

    const { spans } = run.runs[0];
    for (const column of [spans.parent, spans.pass, spans.start_us, spans.duration_us, spans.flops, spans.bytes]) {
      assert.equal(column.length, spans.name.length);
    }
    const name = (/** @type {number} */ row) => spans.names[spans.name[row]];
    const names = new Set(spans.name.map((_, row) => name(row)));
    for (const module of ["embed_tokens", "layers.37", "shared_transformer", "final_layernorm", "lm_head", "sampling"])
      assert.ok(names.has(module), module);
    // The recorded work equals the work counted from the shapes.
    const flops = spans.flops.filter((_, row) => spans.pass[row] === 0).reduce((sum, flops) => sum + flops, 0);
    assert.equal(flops, summary.prefill.flops);
    for (const phase of [summary.prefill, summary.decode]) {
      const own_us = phase.types.reduce((sum, row) => sum + row.self_us, 0);
      assert.ok(Math.abs(own_us + phase.untracked_us - phase.profiled_us.median) < 1e-6 * phase.profiled_us.median);
      assert.equal(phase.blocks.length, 38);
      assert.equal(phase.tree[0].path, "model");
    }
    assert.equal(summary.decode.wall_us.n, 8);
    assert.equal(summary.memory.length, 5);
  }));

test("a run is exported in every format and parses to the same run", () =>
  withSharedModule(async (page) => {
    const { run } = await measured(page, { decode: 1, runs: 1, level: "block", ceilings: false, prefill: 7 });
    assert.equal(run.ceilings, null);
    assert.equal(run.prompt_tokens, 7);
    const exported = await page.evaluate(async (run) => {
      const { exportRun, parseRun, summarise } = /** @type {any} */ (globalThis).zamba2;
      const json = await exportRun(run, "json");
      return {
        markdown: await exportRun(run, "markdown", "ru"),
        csv: await exportRun(run, "csv"),
        trace: JSON.parse(await exportRun(run, "trace")),
        back: await parseRun(json),
        cautions: (await summarise(run)).cautions,
      };
    }, run);
    assert.deepEqual(exported.back, run);
    assert.match(exported.markdown, /^# rustdoc-5m\n\n## Общие параметры\n/);
    assert.match(exported.csv, /^table,phase,/);
    assert.ok(exported.trace.traceEvents.length > 38);
    assert.ok(exported.cautions.some((/** @type {Sentence} */ { key }) => key === "advice.caution.no_ceilings"));
    assert.match(exported.markdown, /Пределы не измерены/);
  }));

test("without isolation a report states it, and the four report functions work", async () => {
  const { context, page, faults } = await openPage();
  await page.goto(`${PLAIN_SITE}/pkg/zamba2.js`);
  const { isolated, advice } = await page.evaluate(async ([site, source]) => {
    const zamba2 = await import(`${site}/pkg/zamba2.js`);
    const model = await zamba2.load({ source: new URL(source, site), weights: "q4", keep: false });
    const run = await model.report({ decode: 1, runs: 1, level: "block", ceilings: false });
    return { isolated: crossOriginIsolated, advice: (await zamba2.summarise(run)).advice, run };
  }, /** @type {const} */ ([PLAIN_SITE, EMBEDDED]));
  // A server that sends isolation headers for all files isolates this page as well.
  assert.equal(
    advice.some((/** @type {Sentence} */ { key }) => key === "advice.threads"),
    !isolated,
  );
  assert.deepEqual(faults, []);
  await context.close();
});

test("the reference report, published and recomputed, needs no model", () =>
  withSharedModule(async (page) => {
    /** @type {ReferenceReport[]} */
    const [published, recomputed] = await page.evaluate(async () => {
      const { referenceReport } = /** @type {any} */ (globalThis).zamba2;
      return [await referenceReport("published"), await referenceReport("recomputed")];
    });
    assert.equal(published.flops, 436.29e9);
    assert.equal(published.parameters, 1_280_351_744);
    assert.equal(recomputed.flops, 126_758_481_920);
    assert.equal(recomputed.parameters, 1_215_064_704);
    assert.deepEqual(recomputed.explanation.values.recomputed, { giga: [126_758_481_920, 3] });
    assert.deepEqual([published.blocks.length, published.types.length, published.slowest.length], [38, 13, 20]);
  }));

test("an invalid run is refused with its field, and the next call still works", () =>
  withSharedModule(async (page) => {
    const errors = await page.evaluate(async () => {
      const { parseRun, summarise, exportRun, referenceReport } = /** @type {any} */ (globalThis).zamba2;
      const failure = async (/** @type {Promise<unknown>} */ call) =>
        call.then(
          () => null,
          ({ code, message, nextStep }) => ({ code, message, nextStep }),
        );
      const errors = [
        await failure(parseRun("not JSON")),
        await failure(parseRun('{"schema":"zamba2-run/1"}')),
        await failure(summarise(null)),
        await failure(summarise({ schema: "other" })),
        await failure(exportRun({}, "pdf")),
        await failure(referenceReport("imagined")),
        await failure(parseRun("[".repeat(1e6))),
      ];
      return { errors, alive: (await referenceReport("published")).n_blocks };
    });
    const codes = errors.errors.map((error) => error?.code);
    assert.deepEqual(codes, ["bad_run", "bad_run", "bad_run", "bad_run", "bad_option", "bad_option", "bad_run"]);
    assert.match(errors.errors[1]?.message ?? "", /made_ms/);
    assert.ok(errors.errors.every((error) => error?.nextStep));
    assert.equal(errors.alive, 38);
  }));

test("a report can be aborted, and the model stays usable", () =>
  withSharedModule(async (page) => {
    const outcome = await page.evaluate(async (source) => {
      const zamba2 = /** @type {any} */ (globalThis).zamba2;
      const model = await zamba2.load({ source, weights: "q4", threads: 1, keep: false });
      const stop = new AbortController();
      const options = {
        runs: 500,
        ceilings: false,
        signal: stop.signal,
        onProgress: (/** @type {{ run: number }} */ { run }) => {
          if (run === 1) stop.abort();
        },
      };
      const name = await model.report(options).then(
        () => "finished",
        (/** @type {Error} */ error) => error.name,
      );
      const bad = await model.report({ runs: 0 }).catch((/** @type {{ code: string }} */ error) => error.code);
      const pieces = [];
      for await (const piece of model.generate("Ownership", { max_tokens: 3 })) pieces.push(String(piece));
      model.dispose();
      return { name, bad, pieces: pieces.length };
    }, EMBEDDED);
    assert.deepEqual(outcome, { name: "AbortError", bad: "bad_option", pieces: 3 });
  }));
