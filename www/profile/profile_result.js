// @ts-check
// What one measured run shows in the Profile view: headline, advice, charts, tables and exports, for one phase at a time.
// It stands on the charts and on a summary that the engine made; it keeps the reader's choices (phase, order, zoom) and
// computes no figure of its own. What is measured, and when, is profile_view.js's business.

import { blockBars, blockBarsFinding, blockBarsTable } from "../charts/block_bars.js";
import { ChartFrame, segmented } from "../charts/chart_frame.js";
import { dataTable } from "../charts/data_table.js";
import { icicle, icicleFinding, icicleTable } from "../charts/icicle.js";
import { memoryArea, memoryFinding, memoryTable } from "../charts/memory_area.js";
import { PARTS, partOf } from "../charts/parts.js";
import { roofline, rooflineFinding, rooflineTable } from "../charts/roofline.js";
import { heatFinding, heatTable, tokenHeat } from "../charts/token_heat.js";
import { typeFinding, typeTable } from "../charts/type_table.js";
import { sentenceText } from "../sentence.js";
import { bytesText, figure, msText, number, significant, t } from "../words.js";
import { blockProfile } from "./block_profile.js";
import { button, card, element, factList, scrollBox, tiles } from "../dom.js";
import { exportsCard } from "./exports_card.js";
import { tokenTimes } from "./token_times.js";

/** @import { BlockRow, ModuleRow, PhaseSummary, Run, Sentence, Summary } from "../engine/zamba2.d.ts" */
/** @import { Order } from "../charts/data_table.js" */
/** @import { IcicleState } from "../charts/icicle.js" */
/** @import { HeatScale, TokenTimes } from "../charts/token_heat.js" */
/** @import { TimeKind } from "../charts/type_table.js" */
/** @import { Strip } from "../blocks/strip.js" */

/** @typedef {"prefill" | "decode"} Phase */

const SLOWEST = 20;

export class ProfileResult {
  /**
   * @param {HTMLElement} root
   * @param {{ strip: Strip, openBlock: (block: number) => void, onFault: (thrown: unknown, retry: () => void) => void, onShown: () => void }} hooks
   * `onShown` is called whenever another summary or phase is shown
   */
  constructor(root, hooks) {
    this.root = root;
    this.hooks = hooks;
    /** @type {Run | null} */
    this.run = null;
    /** @type {Summary | null} */
    this.summary = null;
    this.name = "";
    /** @type {TokenTimes} */
    this.token_times = { kinds: [], columns: [] };
    /** @type {Phase} */
    this.phase = "prefill";
    /** @type {TimeKind} */
    this.times = "self";
    /** @type {Record<"types" | "blocks" | "modules", Order>} */
    this.orders = { types: { key: "us", descending: true }, blocks: { key: "block", descending: false }, modules: { key: "self", descending: true } };
    /** @type {IcicleState} */
    this.icicle = { order: "time", zoom: "", focus: "" };
    this.with_weights = false;
    /** @type {HeatScale} */
    this.heat_scale = "ratio";
    /** @type {number | null} */
    this.heat_row = null;
    this.frames = {
      bars: new ChartFrame({ id: "chart-blocks", title: "bars.title", note: "bars.note", flush: true }),
      types: new ChartFrame({ id: "chart-types", title: "types.title" }),
      roofline: new ChartFrame({ id: "chart-roofline", title: "roof.title", note: "roof.note" }),
      icicle: new ChartFrame({ id: "chart-icicle", title: "icicle.title", note: "icicle.note" }),
      heat: new ChartFrame({ id: "chart-heat", title: "heat.title", note: "heat.profile.note" }),
      memory: new ChartFrame({ id: "chart-memory", title: "memory.title", note: "memory.note" }),
    };
    this.layOut();
  }

  /** The places of the cards; what is in them comes with a summary. */
  layOut() {
    const { bars, types, roofline, icicle, heat, memory } = this.frames;
    this.headline = element("div", "headline");
    this.blocks = element("section", "card", "");
    this.modules = element("section", "card", "");
    this.kinds = element("section", "card", "");
    this.general = element("section", "card", "");
    this.exports = element("section", "card", "");
    this.root.append(
      this.headline, bars.element,
      element("div", "pair-grid", types.element, roofline.element),
      icicle.element,
      element("div", "pair-grid wide-left", this.blocks, this.modules),
      element("div", "pair-grid", heat.element, memory.element),
      element("div", "pair-grid", this.general, this.kinds),
      this.exports,
    );
  }

  /** @param {Run} run @param {Summary} summary @param {string} name */
  show(run, summary, name) {
    if (this.run !== run) {
      this.icicle = { ...this.icicle, zoom: "", focus: "" };
      this.token_times = tokenTimes(run);
    }
    this.run = run;
    this.summary = summary;
    this.name = name;
    this.draw();
  }

  /** The block's figures for the block panel. @param {number} block @returns {Node[]} */
  ofBlock(block) {
    return this.summary ? blockProfile(this.summary, this.phase, block) : [];
  }

  /** @param {TimeKind} times */
  setTimes(times) {
    this.times = times;
    if (this.summary) this.drawTypes(this.summary[this.phase]);
  }

  toggleTimes() {
    this.setTimes(this.times === "self" ? "inclusive" : "self");
  }

  focusExports() {
    this.exports?.querySelector("button")?.focus();
  }

  draw() {
    const { summary } = this;
    if (!summary) return;
    const phase = summary[this.phase];
    this.root.hidden = false;
    this.drawHeadline(summary, phase);
    this.drawBars(phase);
    this.drawTypes(phase);
    this.frames.roofline.show({
      finding: rooflineFinding(summary), draw: (width, readout) => roofline(summary, { width, readout }), table: () => rooflineTable(summary),
    });
    this.drawIcicle(phase);
    this.drawBlocks(phase);
    this.drawModules(phase);
    this.drawHeat();
    this.drawMemory(summary);
    this.drawKinds(phase);
    this.drawGeneral(summary, phase);
    if (this.run) this.replaceCard(this.exports, exportsCard(this.run, this.hooks.onFault));
    this.hooks.onShown();
  }

  /** @param {Summary} summary @param {PhaseSummary} phase */
  drawHeadline(summary, phase) {
    const { general } = summary;
    const per_run = t("tile.spread", { low: msText(phase.wall_us.p5), high: msText(phase.wall_us.p95), n: number(phase.wall_us.n) });
    const ceiling = {
      name: "ceiling", value: percentText(phase.percent_of_ceiling),
      label: t("tile.ceiling"), note: t(`report.verdict.${phase.verdict}`), hero: this.phase === "decode",
    };
    const forward = {
      name: "forward", value: t("unit.ms", { value: msText(phase.wall_us.median) }),
      label: this.phase === "prefill" ? t("tile.forward", { tokens: number(phase.tokens) }) : t("tile.step"), note: per_run, hero: this.phase === "prefill",
    };
    const speed = { name: "speed", value: significant((1e6 * phase.tokens) / phase.wall_us.median), label: t(`tile.speed.${this.phase}`) };
    const flops = { name: "flops", value: `${significant(phase.flops / 1e9)} GF`, label: t("tile.flops"), note: t("tile.flops.note") };
    const tflops = {
      name: "tflops", value: `${significant(phase.tflops)} TFLOPS`, label: t("tile.tflops"),
      note: phase.peak_gflops === null ? "" : t("tile.peak", { gflops: significant(phase.peak_gflops) }),
    };
    const bytes = {
      name: "bytes", value: `${significant(phase.gb_per_s)} ${t("unit.gb_per_s")}`, label: t("tile.bytes", { bytes: bytesText(phase.bytes) }),
      note: t("tile.intensity", { value: significant(phase.intensity) }),
    };
    const sign = phase.recording_percent > 0 ? "+" : phase.recording_percent < 0 ? "−" : "";
    const recording = { name: "recording", value: `${sign}${number(Math.abs(phase.recording_percent), 1)} %`, label: t("tile.recording") };
    const shown = this.phase === "decode"
      ? [ceiling, forward, speed, bytes, flops, tflops, recording]
      : [forward, speed, flops, tflops, ceiling, bytes, recording];
    const title = t(`headline.${this.phase}`, { tokens: number(general.prompt_tokens), steps: number(general.decode_tokens) });
    const head = element("div", "card-head", element("h2", "", title),
      segmented({
        name: "phase", label: t("phase.label"), chosen: this.phase,
        choices: [{ value: /** @type {Phase} */ ("prefill"), label: t("phase.prefill") }, { value: "decode", label: t("phase.decode") }],
        onChoose: (chosen) => {
          this.phase = chosen;
          this.icicle = { ...this.icicle, zoom: "", focus: "" };
          this.draw();
          /** @type {HTMLElement | null} */ (this.headline?.querySelector(`input[value=${chosen}]`))?.focus();
        },
      }));
    const measured = element("p", "note", this.name);
    const summaryCard = element("section", "card summary-card", head, measured, tiles(shown));
    summaryCard.id = "profile-summary";
    const cards = [summaryCard];
    if (summary.advice.length || summary.cautions.length) {
      const words = element("section", "card advice-card");
      words.id = "profile-advice";
      if (summary.advice.length) words.append(sentences("ol", "advice", t("advice.title"), summary.advice));
      if (summary.cautions.length) words.append(sentences("ul", "cautions", t("cautions.title"), summary.cautions));
      cards.push(words);
    }
    this.headline?.replaceChildren(...cards);
  }

  /** @param {PhaseSummary} phase */
  drawBars(phase) {
    const frame = this.frames.bars;
    frame.controls.replaceChildren(element("p", "legend", ...PARTS.map((part) => element("span", "key", element("i", `swatch part-${part}`), t(`part.${part}`)))));
    frame.show({
      finding: blockBarsFinding(phase),
      draw: (width, readout) => blockBars(phase, { width, columns: this.hooks.strip.columnsOver(frame.place, phase.blocks.length), readout, onOpen: this.hooks.openBlock }),
      table: () => blockBarsTable(phase),
    }, t(`phase.${this.phase}`));
  }

  /** @param {PhaseSummary} phase */
  drawTypes(phase) {
    const frame = this.frames.types;
    frame.controls.replaceChildren(segmented({
      name: "times", label: t("types.switch"), chosen: this.times,
      choices: [{ value: /** @type {TimeKind} */ ("self"), label: t("types.self") }, { value: "inclusive", label: t("types.inclusive") }],
      onChoose: (times) => {
        this.setTimes(times);
        /** @type {HTMLElement | null} */ (frame.controls.querySelector(`input[value=${times}]`))?.focus();
      },
    }));
    frame.details.hidden = true;
    frame.show({
      finding: typeFinding(phase),
      draw: () => scrollBox(t("types.title"), typeTable(phase, {
        times: this.times, order: this.orders.types,
        onSort: (order) => {
          this.orders.types = order;
          frame.draw();
          sorterOf(frame.place, order)?.focus();
        },
      })),
      table: () => typeTable(phase, { times: this.times, order: null, onSort: () => {} }),
    }, t(`phase.${this.phase}`));
  }

  /** @param {PhaseSummary} phase */
  drawIcicle(phase) {
    const frame = this.frames.icicle;
    const controls = () => {
      const out = button(t("icicle.out"), () => move({ ...this.icicle, zoom: "", focus: "" }, false), "small");
      out.disabled = this.icicle.zoom === "" || this.icicle.zoom === phase.tree[0]?.path;
      frame.controls.replaceChildren(out, segmented({
        name: "icicle-order", label: t("icicle.switch"), chosen: this.icicle.order,
        choices: [{ value: /** @type {const} */ ("time"), label: t("icicle.time") }, { value: "heavy", label: t("icicle.heavy") }],
        onChoose: (order) => {
          move({ ...this.icicle, order }, false);
          /** @type {HTMLElement | null} */ (frame.controls.querySelector(`input[value=${order}]`))?.focus();
        },
      }));
    };
    /** @param {IcicleState} state @param {boolean} take */
    const move = (state, take) => {
      this.icicle = state;
      controls();
      frame.draw();
      if (take) /** @type {SVGElement | null} */ (frame.place.querySelector("[tabindex='0']"))?.focus();
    };
    controls();
    frame.show({
      finding: icicleFinding(phase),
      draw: (width, readout) => icicle(phase, { width, state: this.icicle, readout, onState: move }),
      table: () => icicleTable(phase),
    }, t(`phase.${this.phase}`));
  }

  /** @param {PhaseSummary} phase */
  drawBlocks(phase) {
    const most_us = Math.max(...phase.blocks.map(({ us }) => us.median));
    const gf = (/** @type {number} */ flops) => (flops > 0 ? significant(flops / 1e9) : "0");
    /** @type {import("../charts/data_table.js").Column<BlockRow>[]} */
    const columns = [
      {
        key: "block", label: t("col.block"), value: (row) => row.block,
        text: (row) => {
          const opener = button(`${row.block}${row.kind === "hybrid" ? " ◇" : ""}`, () => this.hooks.openBlock(row.block), "opener");
          opener.setAttribute("aria-label", t("blocks.open", { block: row.block }));
          return opener;
        },
      },
      { key: "mamba", label: t("col.mamba_gf"), value: (row) => row.flops.mamba, text: (row) => gf(row.flops.mamba) },
      { key: "attention", label: t("col.attention_gf"), value: (row) => row.flops.attention, text: (row) => gf(row.flops.attention) },
      { key: "ffn", label: t("col.ffn_gf"), value: (row) => row.flops.ffn, text: (row) => gf(row.flops.ffn) },
      { key: "ms", label: t("col.ms"), value: (row) => row.us.median, text: (row) => msText(row.us.median), share: (row) => row.us.median / most_us },
      { key: "tflops", label: "TFLOPS", value: (row) => row.tflops, text: (row) => significant(row.tflops) },
      { key: "gb", label: t("col.gb_per_s"), value: (row) => row.gb_per_s, text: (row) => significant(row.gb_per_s) },
      {
        key: "ceiling", label: t("col.ceiling_percent"), value: (row) => row.percent_of_ceiling,
        text: (row) => percentText(row.percent_of_ceiling),
      },
    ];
    this.fillTableCard(this.blocks, "profile-blocks", `${t("blocks.title")} · ${t(`phase.${this.phase}`)}`, t("blocks.note"), "blocks",
      (options) => dataTable(columns, phase.blocks, { label: t("blocks.title"), ...options }));
  }

  /** @param {PhaseSummary} phase */
  drawModules(phase) {
    const rows = phase.modules.slice(0, SLOWEST);
    const most_us = Math.max(...rows.map(({ self_us }) => self_us), 1e-9);
    /** @type {import("../charts/data_table.js").Column<ModuleRow>[]} */
    const columns = [
      { key: "path", label: t("col.module"), words: true, value: (row) => row.path, text: (row) => pathOf(row.path) },
      {
        key: "self", label: t("col.self_ms"), value: (row) => row.self_us, text: (row) => msText(row.self_us),
        share: (row) => row.self_us / most_us, mark: (row) => `bar-${partOf(row.path)}`,
      },
      { key: "percent", label: t("col.time_percent"), value: (row) => row.time_percent, text: (row) => number(row.time_percent, 1) },
      { key: "type", label: t("col.type"), words: true, value: (row) => row.type, text: (row) => row.type },
      {
        key: "ceiling", label: t("col.ceiling_percent"), value: (row) => row.percent_of_ceiling,
        text: (row) => percentText(row.percent_of_ceiling),
      },
    ];
    this.fillTableCard(this.modules, "profile-modules", `${t("modules.title", { n: number(rows.length) })} · ${t(`phase.${this.phase}`)}`, "", "modules",
      (options) => dataTable(columns, rows, { label: t("modules.title", { n: number(rows.length) }), ...options }));
  }

  /**
   * @param {HTMLElement | undefined} place @param {string} id @param {string} title @param {string} note @param {"blocks" | "modules"} name
   * @param {(options: { order: Order, onSort: (order: Order) => void }) => HTMLTableElement} make
   */
  fillTableCard(place, id, title, note, name, make) {
    if (!place) return;
    const fill = () => {
      const made = card(id, title, ...(note ? [element("p", "note", note)] : []), scrollBox(title, make({
        order: this.orders[name],
        onSort: (order) => {
          this.orders[name] = order;
          fill();
          sorterOf(place, order)?.focus();
        },
      })));
      place.id = id;
      place.setAttribute("aria-labelledby", `${id}-title`);
      place.replaceChildren(...made.childNodes);
    };
    fill();
  }

  drawHeat() {
    const frame = this.frames.heat;
    const redraw = () => {
      frame.controls.replaceChildren(segmented({
        name: "heat-scale", label: t("heat.switch"), chosen: this.heat_scale,
        choices: [{ value: /** @type {HeatScale} */ ("ratio"), label: t("heat.scale.ratio") }, { value: "absolute", label: t("heat.scale.absolute") }],
        onChoose: (scale) => {
          this.heat_scale = scale;
          redraw();
          /** @type {HTMLElement | null} */ (frame.controls.querySelector(`input[value=${scale}]`))?.focus();
        },
      }), this.heatRowChoice(redraw));
      frame.show({
        finding: heatFinding(this.token_times),
        draw: (width, readout) => tokenHeat({ ...this.token_times, scale: this.heat_scale }, {
          width, row: this.heat_row, readout,
          onRow: (block) => {
            this.heat_row = this.heat_row === block ? null : block;
            redraw();
          },
        }),
        table: () => heatTable(this.token_times),
      }, t("phase.decode"));
    };
    redraw();
  }

  /** Singles out one block's row, for the keyboard too. @param {() => void} redraw */
  heatRowChoice(redraw) {
    const choice = document.createElement("select");
    choice.className = "small";
    choice.setAttribute("aria-label", t("heat.row"));
    choice.append(new Option(t("heat.row.all"), ""), ...this.token_times.kinds.map((_, block) => new Option(t("cell.block", { n: block }), String(block))));
    choice.value = this.heat_row === null ? "" : String(this.heat_row);
    choice.addEventListener("change", () => {
      this.heat_row = choice.value === "" ? null : Number(choice.value);
      redraw();
      /** @type {HTMLElement | null} */ (this.frames.heat.controls.querySelector("select"))?.focus();
    });
    return choice;
  }

  /** @param {Summary} summary */
  drawMemory(summary) {
    const frame = this.frames.memory;
    frame.controls.replaceChildren(segmented({
      name: "memory-parts", label: t("memory.switch"), chosen: this.with_weights ? "all" : "states",
      choices: [{ value: "states", label: t("memory.states") }, { value: "all", label: t("memory.all") }],
      onChoose: (chosen) => {
        this.with_weights = chosen === "all";
        this.drawMemory(summary);
        /** @type {HTMLElement | null} */ (frame.controls.querySelector(`input[value=${chosen}]`))?.focus();
      },
    }));
    frame.show({
      finding: memoryFinding(summary),
      draw: (width, readout) => memoryArea(summary, { width, weights: this.with_weights, readout }),
      table: () => memoryTable(summary),
    });
  }

  /** @param {PhaseSummary} phase */
  drawKinds(phase) {
    const rows = Object.entries(phase.flops_by_kind).map(([kind, flops]) => ({ kind: /** @type {keyof PhaseSummary["flops_by_kind"]} */ (kind), flops }));
    const table = dataTable([
      { key: "kind", label: t("col.kind"), words: true, value: (row) => row.kind, text: (row) => t(`flops.${row.kind}`) },
      { key: "gf", label: "GF", value: (row) => row.flops, text: (row) => significant(row.flops / 1e9) },
      {
        key: "percent", label: "%", value: (row) => row.flops, part: "flops",
        text: (row) => number((100 * row.flops) / phase.flops, 1), share: (row) => row.flops / phase.flops,
      },
    ], rows, { label: t("kinds.title") });
    const note = t("kinds.note", { phase: t(`phase.${this.phase}`), total: significant(phase.flops / 1e9) });
    this.replaceCard(this.kinds, card("profile-kinds", t("kinds.title"), element("p", "note", note), scrollBox(t("kinds.title"), table)));
  }

  /** @param {Summary} summary @param {PhaseSummary} phase */
  drawGeneral({ general, process_bytes, ceilings }, phase) {
    /** @type {[string, string][]} */
    const facts = [
      [t("general.model"), general.model],
      [t("general.parameters"), number(general.parameters)],
      [t("general.hidden_size"), number(general.hidden_size)],
      [t("general.vocab_size"), number(general.vocab_size)],
      [t("general.prompt_tokens"), number(general.prompt_tokens)],
      [t("general.decode_tokens"), number(general.decode_tokens)],
      [t("general.n_blocks"), number(general.n_blocks)],
      [t("general.context"), number(general.context)],
      [t("general.runs"), t("general.runs.value", { runs: number(general.runs), warmup: number(general.warmup) })],
      [t("general.backend"), general.backend],
      [t("general.weights"), general.weights],
      [t("general.threads"), number(general.threads)],
      [t("general.timer"), t("general.timer.value", { source: general.timer_source, us: figure(general.timer_resolution_us) })],
      [t("general.untracked"), t("general.untracked.value", {
        ms: msText(phase.untracked_us), percent: number((100 * phase.untracked_us) / phase.profiled_us.median, 1),
      })],
    ];
    if (process_bytes !== null) facts.push([t("general.memory"), bytesText(process_bytes)]);
    if (ceilings) {
      facts.push([t("general.ceilings"), t("general.ceilings.value", {
        int8: significant(2 * ceilings.int8_gmacs_per_s), int16: significant(2 * ceilings.int16_gmacs_per_s), f32: significant(2 * ceilings.f32_gmacs_per_s),
        read: significant(ceilings.read_gb_per_s),
      })]);
    }
    facts.push([t("general.host"), general.host]);
    this.replaceCard(this.general, card("profile-general", t("general.title"), factList(facts)));
  }

  /** A card keeps its place in the layout and gets new contents. @param {HTMLElement | undefined} place @param {HTMLElement} made */
  replaceCard(place, made) {
    if (!place) return;
    place.id = made.id;
    place.setAttribute("aria-labelledby", made.getAttribute("aria-labelledby") ?? "");
    place.replaceChildren(...made.childNodes);
  }
}

/** @param {"ol" | "ul"} tag @param {string} kind @param {string} title @param {Sentence[]} given */
const sentences = (tag, kind, title, given) =>
  element("div", "", element("h2", "", title), element(tag, kind, ...given.map((one) => element("li", "", sentenceText(one)))));

/** @param {number | null} percent */
const percentText = (percent) => (percent === null ? "–" : `${number(percent)} %`);

/** A module's path, which may break after its dots. @param {string} path */
function pathOf(path) {
  const parts = path.replace(/^model\./, "").split(/(?<=\.)/);
  return element("code", "path", ...parts.flatMap((part) => [part, document.createElement("wbr")]));
}

/**
 * The button of the column that was just sorted by, in the table that replaced its own.
 * @param {HTMLElement} place @param {Order} order @returns {HTMLElement | null}
 */
const sorterOf = (place, order) => place.querySelector(`.sorter[data-column="${order?.key}"]`);
