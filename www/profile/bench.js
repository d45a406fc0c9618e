// @ts-check
// The page's benchmark, shown with `?bench` in the address: kernels and the loaded model compared with the ceilings of
// this machine, measured in one run, as tables and as JSON; and all kernels of the graphics adapter, as a file.

import { benchGrid, benchKernels } from "../../pkg/zamba2.js";
import { saveFile } from "../save_file.js";
import { figure, number, t } from "../words.js";

/** @import { KernelReport, Model, ProfileReport } from "../engine/zamba2.d.ts" */

const RUNS = 5;
const DECODE_STEPS = 16;
/** Time limit for the adapter's kernels. */
const GRID_SECONDS = 120;

/** @param {number[]} values */
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

/** @param {string} tag @param {string} text */
function cell(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

/** @param {string[]} columns @param {string[][]} rows */
function table(columns, rows) {
  const element = document.createElement("table");
  const head = document.createElement("thead");
  const headRow = document.createElement("tr");
  headRow.append(
    ...columns.map((column) => {
      const header = cell("th", column);
      header.setAttribute("scope", "col");
      return header;
    }),
  );
  head.append(headRow);
  const body = document.createElement("tbody");
  body.append(
    ...rows.map((row) => {
      const line = document.createElement("tr");
      line.append(...row.map((text) => cell("td", text)));
      return line;
    }),
  );
  element.append(head, body);
  return element;
}

/**
 * Time and weight bytes per module in one decode step, in descending order, and the time outside all spans.
 * @param {ProfileReport} report
 */
export function decodeModules(report) {
  /** @type {Map<string, { calls: number, us: number, bytes: number }>} */
  const modules = new Map();
  let wall_us = 0;
  let covered_us = 0;
  for (const { spans, step_ms } of report.runs) {
    if (!spans) continue;
    wall_us += step_ms.reduce((sum, ms) => sum + ms, 0) * 1000;
    const isParent = new Set(spans.parent);
    for (let i = 0; i < spans.name.length; i++) {
      if (spans.pass[i] === 0 || isParent.has(i)) continue;
      const name = spans.names[spans.name[i]];
      const module = modules.get(name) ?? { calls: 0, us: 0, bytes: 0 };
      modules.set(name, {
        calls: module.calls + 1,
        us: module.us + spans.duration_us[i],
        bytes: module.bytes + spans.bytes[i],
      });
      covered_us += spans.duration_us[i];
    }
  }
  const steps = report.runs.length * report.decode_tokens;
  const rows = [...modules].map(([name, { calls, us, bytes }]) => ({
    name,
    calls: calls / steps,
    us: us / steps,
    bytes: bytes / steps,
  }));
  rows.sort((a, b) => b.us - a.us);
  return { rows, step_us: wall_us / steps, untracked_us: (wall_us - covered_us) / steps };
}

export class Bench {
  /** @param {HTMLElement} section @param {() => Model | null} model @param {(thrown: unknown) => void} onFault */
  constructor(section, model, onFault) {
    this.section = section;
    this.model = model;
    this.button = /** @type {HTMLButtonElement} */ (section.querySelector("#bench-run"));
    this.status = /** @type {HTMLElement} */ (section.querySelector("#bench-status"));
    this.result = /** @type {HTMLElement} */ (section.querySelector("#bench-result"));
    this.json = /** @type {HTMLTextAreaElement} */ (section.querySelector("#bench-json"));
    this.grid = /** @type {HTMLButtonElement} */ (section.querySelector("#bench-grid"));
    /** While the adapter's kernels are measured. @type {AbortController | null} */
    this.stop = null;
    section.hidden = false;
    this.grid.hidden = !("gpu" in navigator);
    this.button.addEventListener("click", () => this.alone(this.run()).catch(onFault));
    this.grid.addEventListener("click", () => {
      if (this.stop) this.stop.abort();
      else this.alone(this.runGrid()).catch(onFault);
    });
  }

  /** Runs one measurement at a time, because they would disturb each other. @param {Promise<void>} measurement */
  async alone(measurement) {
    this.button.disabled = true;
    this.grid.disabled = !this.stop;
    try {
      await measurement;
    } finally {
      this.button.disabled = this.grid.disabled = false;
    }
  }

  /** Measures the graphics adapter's kernels, until the button is pressed again, and saves the lines. */
  async runGrid() {
    this.stop = new AbortController();
    const { signal } = this.stop;
    this.labelGrid("bench.grid.stop");
    /** @type {string[]} */
    const lines = [];
    const tell = () => (this.status.textContent = t("bench.grid.progress", { n: number(lines.length) }));
    tell();
    try {
      await benchGrid({ seconds: GRID_SECONDS, signal, onLine: (line) => void (lines.push(line), tell()) });
    } catch (thrown) {
      if (!signal.aborted) throw thrown;
    } finally {
      this.stop = null;
      this.labelGrid("bench.grid");
    }
    saveFile("zamba2-kernels.jsonl", lines.map((line) => `${line}\n`).join(""), "application/jsonl");
    this.status.textContent = t("bench.done");
  }

  /** @param {"bench.grid" | "bench.grid.stop"} word */
  labelGrid(word) {
    this.grid.dataset.t = word;
    this.grid.textContent = t(word);
  }

  async run() {
    const model = this.model();
    this.status.textContent = t("bench.kernels");
    const kernels = await benchKernels(
      model ? { threads: model.info.threads, relaxedSimd: model.info.backend === "cpu-simd128" ? false : "auto" } : {},
    );
    this.status.textContent = t("bench.model");
    const profile = model && (await model.profile({ decode: DECODE_STEPS, runs: RUNS, warmup: 1, level: "module" }));
    this.show(kernels, model, profile);
    this.status.textContent = t("bench.done");
  }

  /** @param {KernelReport} kernels @param {Model | null} model @param {ProfileReport | null} profile */
  show(kernels, model, profile) {
    const { ceilings } = kernels;
    const line = cell(
      "p",
      t("bench.ceilings", {
        threads: number(ceilings.threads),
        int8: figure(ceilings.int8_gmacs_per_s),
        int16: figure(ceilings.int16_gmacs_per_s),
        f32: figure(ceilings.f32_gmacs_per_s),
        read: figure(ceilings.read_gb_per_s),
      }),
    );
    const copy = t("report.ceilings.copy", { copy: figure(ceilings.copy_gb_per_s) });
    const parts = [
      line,
      cell("p", copy),
      table(
        [t("bench.kernel"), t("bench.tokens"), "µs", "GMAC/s", "GB/s", t("bench.percent")],
        kernels.kernels.map((k) => [
          k.kernel,
          number(k.tokens),
          figure(k.us),
          figure(k.gmacs_per_s),
          figure(k.gb_per_s),
          `${number(k.percent_of_ceiling)} %`,
        ]),
      ),
    ];
    /** @type {Record<string, unknown>} */
    const record = { browser: navigator.userAgent, kernels };
    if (model && profile) {
      const prefill_ms = median(profile.unprofiled.map((run) => run.prefill_ms));
      const decode_ms = median(profile.unprofiled.flatMap((run) => run.step_ms));
      const modules = decodeModules(profile);
      Object.assign(record, { info: model.info, prompt_tokens: profile.prompt_tokens, prefill_ms, decode_ms, modules });
      parts.push(
        cell(
          "p",
          t("bench.whole", {
            tokens: number(profile.prompt_tokens),
            prefill: figure(prefill_ms),
            decode: figure(decode_ms),
            speed: figure(1000 / decode_ms),
          }),
        ),
        table(
          [t("bench.module"), t("bench.calls"), t("bench.per_step"), "%", "GB/s", t("bench.percent")],
          [...modules.rows, { name: t("bench.untracked"), calls: 0, us: modules.untracked_us, bytes: 0 }].map(
            ({ name, calls, us, bytes }) => {
              const gb_per_s = bytes / us / 1000;
              return [
                name,
                number(calls),
                figure(us),
                number((100 * us) / modules.step_us, 1),
                bytes ? figure(gb_per_s) : "",
                bytes ? `${number((100 * gb_per_s) / ceilings.read_gb_per_s)} %` : "",
              ];
            },
          ),
        ),
      );
    }
    this.result.replaceChildren(...parts);
    this.json.value = JSON.stringify(record);
    this.json.hidden = false;
  }
}
