// @ts-check
// The ablation card: a block to leave out, the model's continuation without it, and a chart of all blocks' effects.

import { button, card, element } from "../dom.js";
import { visible } from "../token_text.js";
import { figure, natsText, number, t } from "../words.js";
import { segmented } from "../charts/chart_frame.js";

/** @import { AblationEffect, Prediction } from "../engine/zamba2.d.ts" */
/** @typedef {import("../engine/zamba2.d.ts").Ablation["part"]} Part */
/** @typedef {{ block: number, part: Part }} LeftOut */

export class AblationCard {
  /**
   * @param {{ onChoose: (left_out: LeftOut) => void, onMeasureAll: () => void }} hooks
   */
  constructor(hooks) {
    this.hooks = hooks;
    /** @type {LeftOut | null} */
    this.left_out = null;
    /** @type {AblationEffect | null} */
    this.effect = null;
    this.element = element("div", "");
  }

  /** @param {("mamba" | "hybrid")[]} kinds  of the blocks */
  draw(kinds) {
    const { left_out } = this;
    const select = document.createElement("select");
    select.id = "ablation-block";
    select.append(
      new Option(t("ablation.none"), ""),
      ...kinds.map((kind, block) => {
        const name = t("cell.block", { n: block });
        return new Option(kind === "hybrid" ? `${name} ◇` : name, String(block));
      }),
    );
    select.value = left_out ? String(left_out.block) : "";
    select.addEventListener("change", () => {
      if (select.value === "") return this.clear(kinds);
      const block = Number(select.value);
      this.choose({ block, part: kinds[block] === "hybrid" ? (left_out?.part ?? "block") : "block" });
    });
    const field = element("label", "", element("span", "", t("ablation.block")), select);
    const controls = element("div", "row", field);
    if (left_out && kinds[left_out.block] === "hybrid") controls.append(this.parts(left_out));
    controls.append(button(t("ablation.all"), () => this.hooks.onMeasureAll()));
    this.element.replaceChildren(
      card("ablation", t("ablation.title"), element("p", "note", t("ablation.note")), controls, ...this.results()),
    );
  }

  /** @param {LeftOut} left_out */
  parts({ block, part }) {
    return segmented({
      name: "ablation-part",
      label: t("ablation.part"),
      chosen: part,
      choices: [
        { value: /** @type {Part} */ ("block"), label: t("ablation.part.block") },
        { value: "shared", label: t("ablation.part.shared") },
      ],
      onChoose: (chosen) => this.choose({ block, part: chosen }),
    });
  }

  /** @param {LeftOut} left_out */
  choose(left_out) {
    this.left_out = left_out;
    this.effect = null;
    this.hooks.onChoose(left_out);
  }

  /** @param {("mamba" | "hybrid")[]} kinds */
  clear(kinds) {
    this.left_out = null;
    this.effect = null;
    this.draw(kinds);
  }

  results() {
    const { effect, left_out } = this;
    if (!effect || !left_out) return [];
    const [whole] = effect.whole.top;
    const [ablated] = effect.ablated.top;
    const same = whole.token === ablated.token;
    const finding = element(
      "p",
      "finding",
      t(same ? "ablation.same" : "ablation.changed", {
        what: t(left_out.part === "shared" ? "ablation.without.shared" : "ablation.without.block", left_out),
        from: visible(whole.text),
        to: visible(ablated.text),
        from_percent: figure(100 * whole.probability),
        to_percent: figure(100 * ablated.probability),
        kl: natsText(effect.kl_nats),
      }),
    );
    finding.setAttribute("role", "status");
    return [
      finding,
      element(
        "div",
        "pair-grid",
        predictionPart(t("ablation.whole"), effect.whole),
        predictionPart(
          t(left_out.part === "shared" ? "ablation.without.shared" : "ablation.without.block", left_out),
          effect.ablated,
        ),
      ),
    ];
  }
}

/** @param {string} title @param {Prediction} prediction */
function predictionPart(title, { top, text }) {
  const list = element("ol", "predictions");
  for (const { text: token, probability } of top) {
    const share = element("span", "share", `${number(100 * probability, 1)} %`);
    const item = element("li", "", element("code", "", visible(token)), share);
    item.style.setProperty("--share", `${(100 * probability).toFixed(2)}%`);
    list.append(item);
  }
  return element("section", "", element("h3", "", title), list, element("p", "predicted", text));
}
