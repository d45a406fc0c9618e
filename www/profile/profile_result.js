// @ts-check
// Shows one run in the Profile view: headline, charts, tables and exports, one phase at a time. It keeps the user's
// choices (phase, order, zoom). All numbers come from the summary made by the engine.

import { blockBars, blockBarsFinding, blockBarsTable } from "../charts/block_bars.js";
import { ChartFrame, segmented } from "../charts/chart_frame.js";
import { dataTable } from "../charts/data_table.js";
import { icicle, icicleFinding, icicleTable } from "../charts/icicle.js";
import { memoryArea, memoryFinding, memoryTable } from "../charts/memory_area.js";
import { PARTS } from "../charts/parts.js";
import { roofline, rooflineFinding, rooflineTable } from "../charts/roofline.js";
import { heatFinding, heatTable, tokenHeat } from "../charts/token_heat.js";
import { typeFinding, typeTable } from "../charts/type_table.js";
import { button, card, element, scrollBox } from "../dom.js";
import { number, t } from "../words.js";
import { answersCard } from "./answers.js";
import { blockProfile } from "./block_profile.js";
import { exportsCard } from "./exports_card.js";
import { generalCard, kindsCard } from "./fact_cards.js";
import { headlineCards } from "./headline.js";
import { SectionNav } from "./section_nav.js";
import { blockColumns, moduleColumns } from "./result_tables.js";
import { TimelineCard } from "./timeline_card.js";
import { tokenTimes } from "./token_times.js";

/** @import { PhaseSummary, Run, Summary } from "../engine/zamba2.d.ts" */
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
   * @param {{ strip: Strip, openBlock: (block: number, opener: Element) => void,
   *   onFault: (thrown: unknown, retry: () => void) => void, onShown: () => void }} hooks
   * `onShown` is called when another summary or phase is shown
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
    this.orders = {
      types: { key: "us", descending: true },
      blocks: { key: "block", descending: false },
      modules: { key: "self", descending: true },
    };
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
    this.timeline = new TimelineCard();
    this.layOut();
  }

  /** Creates empty cards, which are filled by `draw`. */
  layOut() {
    const { bars, types, roofline, icicle, heat, memory } = this.frames;
    this.answers = element("section", "card", "");
    this.headline = element("div", "headline");
    this.blocks = element("section", "card", "");
    this.modules = element("section", "card", "");
    this.kinds = element("section", "card", "");
    this.general = element("section", "card", "");
    this.exports = element("section", "card", "");
    this.nav = new SectionNav("nav.label", [
      { name: "nav.answers", section: this.answers },
      { name: "nav.summary", section: this.headline },
      { name: "nav.bars", section: bars.element },
      { name: "nav.types", section: types.element },
      { name: "nav.roofline", section: roofline.element },
      { name: "nav.icicle", section: icicle.element },
      { name: "nav.timeline", section: this.timeline.frame.element },
      { name: "nav.tables", section: this.blocks },
      { name: "nav.heat", section: heat.element },
      { name: "nav.memory", section: memory.element },
      { name: "nav.general", section: this.general },
      { name: "nav.exports", section: this.exports },
    ]);
    this.root.append(
      this.nav.root,
      this.answers,
      this.headline,
      bars.element,
      element("div", "pair-grid", types.element, roofline.element),
      icicle.element,
      this.timeline.frame.element,
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

  clear() {
    this.run = null;
    this.summary = null;
    this.root.hidden = true;
  }

  /** The profile of one block, for the block panel. @param {number} block @returns {Node[]} */
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
    this.nav?.showWords();
    this.replaceCard(this.answers, answersCard(summary, this.name, this.hooks.openBlock));
    this.drawHeadline(summary);
    this.drawBars(phase);
    this.drawTypes(phase);
    this.frames.roofline.show({
      finding: rooflineFinding(summary),
      draw: (width, readout) => roofline(summary, { width, readout }),
      table: () => rooflineTable(summary),
    });
    this.drawIcicle(phase);
    if (this.run) this.timeline.show(this.run, summary);
    this.drawBlocks(phase);
    this.drawModules(phase);
    this.drawHeat();
    this.drawMemory(summary);
    this.replaceCard(this.kinds, kindsCard(phase, this.phase));
    this.replaceCard(this.general, generalCard(summary, phase));
    if (this.run) this.replaceCard(this.exports, exportsCard(this.run, this.hooks.onFault));
    this.hooks.onShown();
  }

  /** @param {PhaseSummary} phase */
  drawBars(phase) {
    const frame = this.frames.bars;
    frame.controls.replaceChildren(
      element(
        "p",
        "legend",
        ...PARTS.map((part) => element("span", "key", element("i", `swatch part-${part}`), t(`part.${part}`))),
      ),
    );
    frame.show(
      {
        finding: blockBarsFinding(phase),
        draw: (width, readout) =>
          blockBars(phase, {
            width,
            columns: this.hooks.strip.columnsOver(frame.place, phase.blocks.length),
            readout,
            onOpen: this.hooks.openBlock,
          }),
        table: () => blockBarsTable(phase),
      },
      t(`phase.${this.phase}`),
    );
  }

  /** @param {PhaseSummary} phase */
  drawTypes(phase) {
    const frame = this.frames.types;
    frame.controls.replaceChildren(
      segmented({
        name: "times",
        label: t("types.switch"),
        chosen: this.times,
        choices: [
          { value: /** @type {TimeKind} */ ("self"), label: t("types.self") },
          { value: "inclusive", label: t("types.inclusive") },
        ],
        onChoose: (times) => {
          this.setTimes(times);
          /** @type {HTMLElement | null} */ (frame.controls.querySelector(`input[value=${times}]`))?.focus();
        },
      }),
    );
    frame.details.hidden = true;
    frame.show(
      {
        finding: typeFinding(phase),
        draw: () =>
          scrollBox(
            t("types.title"),
            typeTable(phase, {
              times: this.times,
              order: this.orders.types,
              onSort: (order) => {
                this.orders.types = order;
                frame.draw();
                sorterOf(frame.place, order)?.focus();
              },
            }),
          ),
        table: () => typeTable(phase, { times: this.times, order: null, onSort: () => {} }),
      },
      t(`phase.${this.phase}`),
    );
  }

  /** @param {PhaseSummary} phase */
  drawIcicle(phase) {
    const frame = this.frames.icicle;
    const controls = () => {
      const out = button(t("icicle.out"), () => move({ ...this.icicle, zoom: "", focus: "" }, false), "small");
      out.disabled = this.icicle.zoom === "" || this.icicle.zoom === phase.tree[0]?.path;
      frame.controls.replaceChildren(
        out,
        segmented({
          name: "icicle-order",
          label: t("icicle.switch"),
          chosen: this.icicle.order,
          choices: [
            { value: /** @type {const} */ ("time"), label: t("icicle.time") },
            { value: "heavy", label: t("icicle.heavy") },
          ],
          onChoose: (order) => {
            move({ ...this.icicle, order }, false);
            /** @type {HTMLElement | null} */ (frame.controls.querySelector(`input[value=${order}]`))?.focus();
          },
        }),
      );
    };
    /** @param {IcicleState} state @param {boolean} take */
    const move = (state, take) => {
      this.icicle = state;
      controls();
      frame.draw();
      if (take) /** @type {SVGElement | null} */ (frame.place.querySelector("[tabindex='0']"))?.focus();
    };
    controls();
    frame.show(
      {
        finding: icicleFinding(phase),
        draw: (width, readout) => icicle(phase, { width, state: this.icicle, readout, onState: move }),
        table: () => icicleTable(phase),
      },
      t(`phase.${this.phase}`),
    );
  }

  /** @param {Summary} summary */
  drawHeadline(summary) {
    const onPhase = (/** @type {Phase} */ phase) => {
      this.phase = phase;
      this.icicle = { ...this.icicle, zoom: "", focus: "" };
      this.draw();
      /** @type {HTMLElement | null} */ (this.headline?.querySelector(`input[value=${phase}]`))?.focus();
    };
    const cards = headlineCards(summary, this.phase, onPhase);
    this.headline?.replaceChildren(...cards);
  }

  /** @param {PhaseSummary} phase */
  drawBlocks(phase) {
    const title = `${t("blocks.title")} · ${t(`phase.${this.phase}`)}`;
    this.fillTableCard(this.blocks, "profile-blocks", title, t("blocks.note"), "blocks", (options) =>
      dataTable(blockColumns(phase, this.hooks.openBlock), phase.blocks, { label: t("blocks.title"), ...options }),
    );
  }

  /** @param {PhaseSummary} phase */
  drawModules(phase) {
    const rows = phase.modules.slice(0, SLOWEST);
    const label = t("modules.title", { n: number(rows.length) });
    const title = `${label} · ${t(`phase.${this.phase}`)}`;
    this.fillTableCard(this.modules, "profile-modules", title, "", "modules", (options) =>
      dataTable(moduleColumns(rows), rows, { label, ...options }),
    );
  }

  /**
   * @param {HTMLElement | undefined} place
   * @param {string} id
   * @param {string} title
   * @param {string} note
   * @param {"blocks" | "modules"} name
   * @param {(options: { order: Order, onSort: (order: Order) => void }) => HTMLTableElement} make
   */
  fillTableCard(place, id, title, note, name, make) {
    if (!place) return;
    const fill = () => {
      const made = card(
        id,
        title,
        ...(note ? [element("p", "note", note)] : []),
        scrollBox(
          title,
          make({
            order: this.orders[name],
            onSort: (order) => {
              this.orders[name] = order;
              fill();
              sorterOf(place, order)?.focus();
            },
          }),
        ),
      );
      place.id = id;
      place.setAttribute("aria-labelledby", `${id}-title`);
      place.replaceChildren(...made.childNodes);
    };
    fill();
  }

  drawHeat() {
    const frame = this.frames.heat;
    const redraw = () => {
      frame.controls.replaceChildren(
        segmented({
          name: "heat-scale",
          label: t("heat.switch"),
          chosen: this.heat_scale,
          choices: [
            { value: /** @type {HeatScale} */ ("ratio"), label: t("heat.scale.ratio") },
            { value: "absolute", label: t("heat.scale.absolute") },
          ],
          onChoose: (scale) => {
            this.heat_scale = scale;
            redraw();
            /** @type {HTMLElement | null} */ (frame.controls.querySelector(`input[value=${scale}]`))?.focus();
          },
        }),
        this.heatRowChoice(redraw),
      );
      frame.show(
        {
          finding: heatFinding(this.token_times),
          draw: (width, readout) =>
            tokenHeat(
              { ...this.token_times, scale: this.heat_scale },
              {
                width,
                row: this.heat_row,
                readout,
                onRow: (block) => {
                  this.heat_row = this.heat_row === block ? null : block;
                  redraw();
                },
              },
            ),
          table: () => heatTable(this.token_times),
        },
        t("phase.decode"),
      );
    };
    redraw();
  }

  /** The selection of the highlighted block. @param {() => void} redraw */
  heatRowChoice(redraw) {
    const choice = document.createElement("select");
    choice.className = "small";
    choice.setAttribute("aria-label", t("heat.row"));
    choice.append(
      new Option(t("heat.row.all"), ""),
      ...this.token_times.kinds.map((_, block) => new Option(t("cell.block", { n: block }), String(block))),
    );
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
    frame.controls.replaceChildren(
      segmented({
        name: "memory-parts",
        label: t("memory.switch"),
        chosen: this.with_weights ? "all" : "states",
        choices: [
          { value: "states", label: t("memory.states") },
          { value: "all", label: t("memory.all") },
        ],
        onChoose: (chosen) => {
          this.with_weights = chosen === "all";
          this.drawMemory(summary);
          /** @type {HTMLElement | null} */ (frame.controls.querySelector(`input[value=${chosen}]`))?.focus();
        },
      }),
    );
    frame.show({
      finding: memoryFinding(summary),
      draw: (width, readout) => memoryArea(summary, { width, weights: this.with_weights, readout }),
      table: () => memoryTable(summary),
    });
  }

  /**
   * Replaces the contents of a card, which stays in its place.
   * @param {HTMLElement | undefined} place
   * @param {HTMLElement} made
   */
  replaceCard(place, made) {
    if (!place) return;
    place.id = made.id;
    place.setAttribute("aria-labelledby", made.getAttribute("aria-labelledby") ?? "");
    place.replaceChildren(...made.childNodes);
  }
}

/**
 * The header button of the sorted column, in the table after a redraw.
 * @param {HTMLElement} place @param {Order} order @returns {HTMLElement | null}
 */
const sorterOf = (place, order) => place.querySelector(`.sorter[data-column="${order?.key}"]`);
