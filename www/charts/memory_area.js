// @ts-check
// Stacked areas of memory over tokens: the states of the Mamba blocks, of constant size, below the KV cache, which
// grows with every token; optionally the weights. Beyond the measured tokens, the chart extends to the full context,
// with sizes computed from shapes.

import { bytesText, number, t } from "../words.js";
import { dataTable } from "./data_table.js";
import { label, line, linear, picture, svg, ticks } from "./svg.js";

/** @import { Summary } from "../engine/zamba2.d.ts" */

/** @typedef {"weights" | "shared" | "conv" | "ssm" | "kv"} MemoryPart */
/** @typedef {{ tokens: number, measured: boolean } & Record<MemoryPart, number>} MemoryRow */

const HEIGHT = 270;
const LEFT = 62;
const RIGHT = 12;
const TOP = 18;
const BOTTOM = 38;
/** From the bottom up. @type {MemoryPart[]} */
const STATES = ["ssm", "conv", "kv"];
/** @type {MemoryPart[]} */
const ALL = ["weights", "shared", ...STATES];

/** At the measured steps and at the end of the context. @param {Summary} summary @returns {MemoryRow[]} */
export function memoryRows(summary) {
  const { general, memory } = summary;
  const rows = memory.map((at) => ({
    tokens: general.prompt_tokens + at.step,
    measured: true,
    weights: at.weights_bytes - at.shared_bytes,
    shared: at.shared_bytes,
    ssm: at.ssm_state_bytes,
    conv: at.conv_state_bytes,
    kv: at.kv_bytes,
  }));
  const last = rows[rows.length - 1];
  if (!last || last.tokens >= general.context) return rows;
  return [
    ...rows,
    { ...last, tokens: general.context, measured: false, kv: (last.kv / last.tokens) * general.context },
  ];
}

/** @param {Summary} summary */
export function memoryFinding(summary) {
  const rows = memoryRows(summary);
  const [first, last] = [rows[0], rows[rows.length - 1]];
  if (!first || !last) return t("memory.none");
  return t("memory.finding", {
    state: bytesText(first.ssm + first.conv),
    kv: bytesText(first.kv),
    tokens: number(first.tokens),
    kv_full: bytesText(last.kv),
    context: number(last.tokens),
  });
}

/** @param {Summary} summary @param {{ width: number, weights: boolean, readout: (text: string) => void }} options */
export function memoryArea(summary, { width, weights, readout }) {
  const rows = memoryRows(summary);
  const root = picture(width, HEIGHT, memoryFinding(summary));
  const parts = weights ? ALL : STATES;
  const last = rows[rows.length - 1];
  if (!last) return root;
  // At zero tokens the KV cache is empty; the other parts exist from the start.
  const all = [{ ...rows[0], tokens: 0, kv: 0, measured: true }, ...rows];
  const total = (/** @type {MemoryRow} */ row) => parts.reduce((sum, part) => sum + row[part], 0);
  const most = total(last) * 1.08;
  const x = linear([0, last.tokens], [LEFT, width - RIGHT]);
  const y = linear([0, most], [HEIGHT - BOTTOM, TOP]);
  for (const bytes of ticks(most, 4)) {
    root.append(
      line(LEFT, y(bytes), width - RIGHT, y(bytes), bytes === 0 ? "axis" : "grid"),
      label(LEFT - 6, y(bytes) + 4, bytesText(bytes), { anchor: "end" }),
    );
  }
  for (const tokens of ticks(last.tokens, Math.max(2, Math.floor(width / 120)))) {
    root.append(label(x(tokens), HEIGHT - BOTTOM + 16, number(tokens), { anchor: "middle" }));
  }
  root.append(label((LEFT + width - RIGHT) / 2, HEIGHT - 6, t("memory.axis"), { anchor: "middle" }));

  /** @type {number[]} */
  let floor = all.map(() => 0);
  for (const part of parts) {
    const ceiling = all.map((row, at) => floor[at] + row[part]);
    const up = all.map((row, at) => `${x(row.tokens).toFixed(1)} ${y(ceiling[at]).toFixed(1)}`);
    const down = all.map((row, at) => `${x(row.tokens).toFixed(1)} ${y(floor[at]).toFixed(1)}`).reverse();
    root.append(svg("path", { d: `M${up.join("L")}L${down.join("L")}Z`, class: `area memory-${part}` }));
    const at = all.length - 1;
    // The name is drawn inside its band if the band is high enough.
    if (y(floor[at]) - y(ceiling[at]) > 18) {
      const name = `${t(`memory.${part}`)} ${bytesText(all[at][part])}`;
      root.append(
        label(width - RIGHT - 8, (y(floor[at]) + y(ceiling[at])) / 2 + 4, name, { anchor: "end", kind: "area-text" }),
      );
    }
    floor = ceiling;
  }
  const measured = rows.filter((row) => row.measured).at(-1);
  if (measured && measured.tokens < last.tokens) {
    root.append(line(x(measured.tokens), TOP, x(measured.tokens), HEIGHT - BOTTOM, "marker"));
    const right = x(measured.tokens) < width / 2;
    root.append(
      label(x(measured.tokens) + (right ? 6 : -6), TOP + 2, t("memory.measured", { tokens: number(measured.tokens) }), {
        anchor: right ? "start" : "end",
        kind: "marker-text",
      }),
    );
  }
  root.addEventListener("pointermove", (event) => {
    const left = root.getBoundingClientRect().left;
    const tokens = Math.round(
      Math.min(last.tokens, Math.max(0, ((event.clientX - left - LEFT) / (width - LEFT - RIGHT)) * last.tokens)),
    );
    const kv = (last.kv / last.tokens) * tokens;
    readout(
      [
        t("memory.at", { tokens: number(tokens) }),
        ...parts.map((part) => `${t(`memory.${part}`)} ${bytesText(part === "kv" ? kv : last[part])}`),
      ].join(" · "),
    );
  });
  root.addEventListener("pointerleave", () => readout(""));
  return root;
}

/** @param {Summary} summary */
export function memoryTable(summary) {
  return dataTable(
    [
      { key: "tokens", label: t("col.tokens"), value: (row) => row.tokens, text: (row) => number(row.tokens) },
      ...ALL.map((part) => ({
        key: part,
        label: t(`memory.${part}`),
        value: (/** @type {MemoryRow} */ row) => row[part],
        text: (/** @type {MemoryRow} */ row) => bytesText(row[part]),
      })),
    ],
    memoryRows(summary),
    { label: t("memory.title") },
  );
}
