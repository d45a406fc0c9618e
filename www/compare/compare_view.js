// @ts-check
// The Compare view: two sides chosen from the runs measured here, opened files and the reference report, and the
// change from A to B. Differences in the conditions are shown first.

import { parseRun, referenceReport } from "../../pkg/zamba2.js";
import { ChartFrame, segmented } from "../charts/chart_frame.js";
import { dataTable } from "../charts/data_table.js";
import { changeText, deltaFinding, deltaStrip, deltaTable } from "../charts/delta_strip.js";
import { dumbbell, dumbbellFinding, dumbbellTable } from "../charts/dumbbell.js";
import { sentenceText } from "../sentence.js";
import { msText, number, significant, t, write } from "../words.js";
import { blockPairs, comparisonRows, isOneSize, typePairs, unlike, withinSpread } from "./comparison.js";
import { byId, card, element, scrollBox } from "../dom.js";

/** @import { ReferenceReport } from "../engine/zamba2.d.ts" */
/** @import { Phase, Side } from "./comparison.js" */
/** @import { RunShelf } from "../profile/run_shelf.js" */
/** @import { Strip } from "../blocks/strip.js" */

const FLOP_KINDS = /** @type {const} */ (["linear", "conv1d", "attention", "ssm"]);
const REFERENCES = /** @type {const} */ (["published", "recomputed"]);

export class CompareView {
  /**
   * @param {{ shelf: RunShelf, strip: Strip, onFault: (thrown: unknown, file: string) => void,
   *   onOpened: () => void }} hooks
   */
  constructor(hooks) {
    this.hooks = hooks;
    /**
     * Ids of the chosen sides; null leaves the choice to `sides`.
     * @type {{ a: string | null, b: string | null }}
     */
    this.chosen = { a: null, b: null };
    /** @type {Phase} */
    this.phase = "prefill";
    this.drawing = 0;
    this.a = /** @type {HTMLSelectElement} */ (byId("compare-a"));
    this.b = /** @type {HTMLSelectElement} */ (byId("compare-b"));
    this.result = byId("compare-result");
    this.place = byId("compare-phase");
    this.status = byId("compare-status");
    this.frames = {
      delta: new ChartFrame({ id: "chart-delta", title: "delta.title", flush: true }),
      types: new ChartFrame({ id: "chart-dumbbell", title: "dumbbell.title", note: "dumbbell.note" }),
    };
    for (const side of /** @type {const} */ (["a", "b"])) {
      this[side].addEventListener("change", () => {
        this.chosen[side] = this[side].value;
        void this.draw();
      });
    }
    byId("compare-swap").addEventListener("click", () => {
      this.chosen = { a: this.b.value, b: this.a.value };
      void this.draw();
    });
    const input = /** @type {HTMLInputElement} */ (byId("compare-input"));
    byId("compare-open").addEventListener("click", () => input.click());
    input.addEventListener("change", async () => {
      for (const file of [...(input.files ?? [])]) await this.open(file);
      input.value = "";
    });
    hooks.shelf.listeners.push(() => void this.draw());
  }

  /** @param {File} file */
  async open(file) {
    try {
      const shelved = this.hooks.shelf.add(await parseRun(await file.text()), "file");
      // An opened file becomes side B, compared with the current side A or the newest run measured here.
      this.chosen.b = shelved.id;
      this.hooks.onOpened();
      write(this.status, "compare.opened", { file: file.name });
      await this.draw();
    } catch (thrown) {
      this.hooks.onFault(thrown, file.name);
    }
  }

  /** @returns {{ id: string, name: string }[]} */
  choices() {
    const { shelf } = this.hooks;
    return [
      ...[...shelf.runs].reverse().map((shelved) => ({ id: shelved.id, name: shelf.name(shelved) })),
      ...REFERENCES.map((kind) => ({ id: kind, name: t(`reference.${kind}`) })),
    ];
  }

  /** @param {string} id @returns {Promise<Side>} */
  async side(id) {
    const { shelf } = this.hooks;
    const shelved = shelf.runs.find((one) => one.id === id);
    if (shelved)
      return {
        id,
        name: shelf.name(shelved),
        run: shelved.run,
        summary: await shelf.summary(shelved),
        reference: null,
      };
    const kind = id === "published" ? "published" : "recomputed";
    return { id, name: t(`reference.${kind}`), run: null, summary: null, reference: await referenceReport(kind) };
  }

  /**
   * The chosen sides. By default A is the newest run measured here, and B another run of its size or the reference of
   * its size; a run without such a counterpart is `alone`, and both reports of the reference are compared instead.
   * @returns {Promise<{ a: Side, b: Side, alone: Side | null }>}
   */
  async sides() {
    const { chosen } = this;
    const { runs } = this.hooks.shelf;
    const newest = [...runs.filter(({ from }) => from === "file"), ...runs.filter(({ from }) => from === "here")]
      .reverse()
      .map(({ id }) => id);
    const a_id = chosen.a ?? newest.find((id) => id !== chosen.b);
    if (a_id === undefined) {
      const [a, b] = await Promise.all([this.side("published"), this.side(chosen.b ?? "recomputed")]);
      return { a, b, alone: null };
    }
    const a = await this.side(a_id);
    if (chosen.b !== null) return { a, b: await this.side(chosen.b), alone: null };
    for (const id of [...newest, "recomputed"]) {
      const b = await this.side(id);
      if (id !== a_id && isOneSize(a, b)) return { a, b, alone: null };
    }
    if (chosen.a !== null) return { a, b: await this.side("recomputed"), alone: null };
    return { a: await this.side("published"), b: await this.side("recomputed"), alone: a };
  }

  /** Draws only while the view is shown: the reference report starts a worker, which is not needed before. */
  async draw() {
    if (byId("view-compare").hidden) return;
    const turn = ++this.drawing;
    for (const side of /** @type {const} */ (["a", "b"])) {
      // The run was deleted.
      if (!this.choices().some(({ id }) => id === this.chosen[side])) this.chosen[side] = null;
    }
    const [{ a, b, alone }, published, recomputed] = await Promise.all([
      this.sides(),
      referenceReport("published"),
      referenceReport("recomputed"),
    ]);
    // Superseded by a later call.
    if (turn !== this.drawing) return;
    const choices = this.choices();
    for (const [select, { id }] of /** @type {const} */ ([
      [this.a, a],
      [this.b, b],
    ])) {
      select.replaceChildren(...choices.map(({ id: value, name }) => new Option(name, value)));
      select.value = id;
    }
    const empty = byId("compare-empty");
    empty.hidden = this.hooks.shelf.runs.length > 0 && alone === null;
    if (alone) write(empty, "compare.alone", { run: alone.name });
    else write(empty, "compare.empty");
    this.show(a, b);
    this.result.append(referenceCard(published, recomputed));
  }

  /** @param {Side} a @param {Side} b */
  show(a, b) {
    this.place.replaceChildren(
      segmented({
        name: "compare-phase",
        label: t("phase.label"),
        chosen: this.phase,
        choices: [
          { value: /** @type {Phase} */ ("prefill"), label: t("phase.prefill") },
          { value: "decode", label: t("phase.decode") },
        ],
        onChoose: (phase) => {
          this.phase = phase;
          void this.draw().then(() =>
            /** @type {HTMLElement | null} */ (this.place.querySelector(`input[value=${phase}]`))?.focus(),
          );
        },
      }),
    );
    /** @type {Node[]} */
    const parts = [];
    const reasons = unlike(a, b, this.phase);
    if (reasons) {
      const banner = element(
        "section",
        "card banner",
        element("h2", "", reasons.title),
        element("ul", "", ...reasons.texts.map((text) => element("li", "", text))),
      );
      banner.id = "compare-banner";
      parts.push(banner);
    }
    parts.push(comparisonCard(a, b, this.phase));
    const blocks = blockPairs(a, b, this.phase);
    if (blocks) {
      const unit = blocks.measure === "ms" ? t("axis.ms") : "GFLOP";
      this.frames.delta.show({
        finding: deltaFinding(blocks.pairs, unit),
        draw: (width, readout) =>
          deltaStrip(blocks.pairs, {
            width,
            unit,
            readout,
            columns: this.hooks.strip.columnsOver(this.frames.delta.place, blocks.pairs.length),
          }),
        table: () => deltaTable(blocks.pairs, unit),
      });
      this.frames.delta.heading.textContent = t(blocks.measure === "ms" ? "delta.title" : "delta.title.gf");
      parts.push(this.frames.delta.element);
    }
    const types = typePairs(a, b, this.phase);
    // Both references have the same times, so the chart would be useless.
    if (types.some(({ a_ms, b_ms }) => a_ms !== b_ms)) {
      const key = element(
        "p",
        "legend",
        element("span", "key", element("i", "dot end-a"), `A: ${a.name}`),
        element("span", "key", element("i", "dot end-b"), `B: ${b.name}`),
      );
      this.frames.types.controls.replaceChildren(key);
      this.frames.types.show({
        finding: dumbbellFinding(types),
        draw: (width, readout) => dumbbell(types, { width, readout }),
        table: () => dumbbellTable(types),
      });
      parts.push(this.frames.types.element);
    }
    this.result.replaceChildren(...parts);
  }
}

/** @param {Side} a @param {Side} b @param {Phase} phase */
function comparisonCard(a, b, phase) {
  const rows = comparisonRows(phase).filter(({ of }) => of(a) !== "–" || of(b) !== "–");
  const table = dataTable(
    [
      { key: "label", label: t("compare.what"), words: true, value: () => null, text: (row) => row.label },
      { key: "a", label: "A", value: () => null, text: (row) => row.of(a) },
      { key: "b", label: "B", value: () => null, text: (row) => row.of(b) },
      {
        key: "change",
        label: t("compare.change"),
        value: () => null,
        text: (row) => {
          const [x, y] = [row.value?.(a) ?? null, row.value?.(b) ?? null];
          if (x === null || y === null) return "";
          return row.key === "ms" && withinSpread(a, b, phase)
            ? t("compare.within_spread", { change: changeText(x, y) })
            : changeText(x, y);
        },
      },
    ],
    rows,
    { label: t("compare.table") },
  );
  return card(
    "compare-table",
    `A: ${a.name} · B: ${b.name}`,
    element("p", "note", t("compare.change.note")),
    scrollBox(t("compare.table"), table),
  );
}

/** @param {ReferenceReport} published @param {ReferenceReport} recomputed */
function referenceCard(published, recomputed) {
  const gf = (/** @type {number} */ flops) => significant(flops / 1e9, 5);
  /** @type {[string, (report: ReferenceReport) => string][]} */
  const rows = [
    [t("compare.forward"), ({ forward_us }) => t("unit.ms", { value: number(forward_us / 1000, 2) })],
    [t("general.parameters"), ({ parameters }) => number(parameters)],
    [`${t("compare.flops")}, GFLOP`, ({ flops }) => gf(flops)],
    ...FLOP_KINDS.map((kind) => kindRow(kind, gf)),
    ["TFLOPS", ({ tflops }) => significant(tflops, 2)],
    [t("reference.block", { block: 0 }), ({ blocks }) => gf(sumOf(blocks[0]))],
    [t("reference.block", { block: 5 }), ({ blocks }) => gf(sumOf(blocks[5]))],
    [t("reference.block", { block: 11 }), ({ blocks }) => gf(sumOf(blocks[11]))],
  ];
  const table = dataTable(
    [
      { key: "label", label: t("compare.what"), words: true, value: () => null, text: ([name]) => name },
      { key: "published", label: t("reference.col.published"), value: () => null, text: ([, of]) => of(published) },
      { key: "recomputed", label: t("reference.col.recomputed"), value: () => null, text: ([, of]) => of(recomputed) },
    ],
    rows,
    { label: t("reference.title") },
  );
  return card(
    "compare-reference",
    t("reference.title"),
    element("p", "", sentenceText(recomputed.explanation)),
    scrollBox(t("reference.title"), table),
    element("p", "note", t("reference.note", { ms: msText(published.forward_us) })),
  );
}

/**
 * The published report has one number for linear layers and convolutions together.
 * @param {typeof FLOP_KINDS[number]} kind
 * @param {(flops: number) => string} gf
 * @returns {[string, (report: ReferenceReport) => string]}
 */
const kindRow = (kind, gf) => [
  `${t(`flops.${kind}`)}, GFLOP`,
  ({ flops_by_kind }) => (flops_by_kind[kind] > 0 ? gf(flops_by_kind[kind]) : t("reference.in_linear")),
];

/** @param {ReferenceReport["blocks"][number]} row */
const sumOf = (row) => row.mamba_flops + row.attention_flops + row.ffn_flops + row.other_flops;
