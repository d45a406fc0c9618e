// @ts-check
// The answer as tokens: each is a button tinted by its probability, and a panel shows rank, time and alternatives of
// the selected one. The playground does the branching.

import { spokenText, visible } from "../token_text.js";
import { figure, number, t } from "../words.js";

/** @import { Token } from "./exchange.js" */

/** With a stronger tint the contrast of the text would be below 4.5:1 in dark mode. */
const MAX_TINT_PERCENT = 38;
/**
 * The probability with the strongest tint. The scale is logarithmic, because most tokens would look alike on a linear
 * one.
 */
const LEAST_PROBABILITY = 1e-3;

export class TokenView {
  /**
   * @param {{ place: HTMLElement, panel: HTMLElement }} parts
   * @param {(index: number, token: number) => void} onBranch
   */
  constructor({ place, panel }, onBranch) {
    this.place = place;
    this.panel = panel;
    this.onBranch = onBranch;
    /** @type {readonly Token[]} */
    this.tokens = [];
    this.on = false;
    /** Whether the model's state allows branching from these tokens. */
    this.can_branch = false;
    this.chosen = -1;
    place.addEventListener("click", (event) => {
      const index = this.indexOf(event.target);
      if (index >= 0) this.choose(index);
    });
    place.addEventListener("keydown", (event) => this.key(event));
    panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      const { chosen } = this;
      this.choose(-1);
      this.focus(chosen);
    });
  }

  /** @param {boolean} on */
  setShown(on) {
    this.on = on;
    this.choose(-1);
    this.draw();
  }

  /** Sets the tokens of an answer; call `grown` after appending to the array. @param {readonly Token[]} tokens */
  set(tokens) {
    this.tokens = tokens;
    this.choose(-1);
    this.draw();
  }

  draw() {
    this.place.replaceChildren();
    this.grown();
  }

  /** Draws the tokens appended since the last call. */
  grown() {
    if (!this.on) return;
    const from = this.place.childElementCount;
    this.place.append(...this.tokens.slice(from).map((token, i) => this.cell(token, from + i)));
  }

  /** @param {Token} token @param {number} index */
  cell(token, index) {
    const cell = document.createElement("span");
    cell.className = "token";
    cell.role = "button";
    cell.tabIndex = index === 0 ? 0 : -1;
    cell.textContent = visible(token.text);
    const surprise = Math.min(1, Math.log(token.probability) / Math.log(LEAST_PROBABILITY));
    cell.style.setProperty("--tint", `${cssNumber(surprise * MAX_TINT_PERCENT)}%`);
    cell.classList.toggle("draft", token.accepted_draft === true);
    const label = token.accepted_draft ? "token.label.draft" : "token.label";
    cell.setAttribute("aria-label", t(label, { text: spokenText(token.text), percent: percent(token.probability) }));
    cell.setAttribute("aria-expanded", "false");
    return cell;
  }

  /** @param {EventTarget | null} target */
  indexOf(target) {
    return [...this.place.children].indexOf(/** @type {Element} */ (target));
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const index = this.indexOf(event.target);
    if (index < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = this.place.childElementCount - 1;
    const next = {
      ArrowRight: index + 1,
      ArrowDown: index + 1,
      ArrowLeft: index - 1,
      ArrowUp: index - 1,
      Home: 0,
      End: last,
    }[event.key];
    if (next !== undefined) this.focus(Math.max(0, Math.min(last, next)));
    else if (event.key === "Enter" || event.key === " ") this.choose(index);
    else return;
    event.preventDefault();
  }

  /** @param {number} index */
  focus(index) {
    const cell = /** @type {HTMLElement | undefined} */ (this.place.children[index]);
    if (!cell) return;
    for (const other of this.place.querySelectorAll("[tabindex='0']")) /** @type {HTMLElement} */ (other).tabIndex = -1;
    cell.tabIndex = 0;
    cell.focus();
  }

  /** Opens the panel for a token; -1 closes it. @param {number} index */
  choose(index) {
    this.place.children[this.chosen]?.setAttribute("aria-expanded", "false");
    this.chosen = index;
    this.panel.hidden = index < 0;
    this.panel.replaceChildren();
    if (index < 0) return;
    this.place.children[index]?.setAttribute("aria-expanded", "true");
    const token = this.tokens[index];
    const title = document.createElement("h3");
    title.textContent = t("token.title", { n: number(index + 1), text: visible(token.text) });
    title.tabIndex = -1;
    const facts = document.createElement("dl");
    facts.className = "facts";
    for (const [name, value] of /** @type {[string, string][]} */ ([
      [t("token.probability"), `${percent(token.probability)} %`],
      [t("token.rank"), number(token.rank)],
      [t("token.drawn"), `${percent(token.drawn_probability)} %`],
      [t("token.time"), figure(token.us / 1000)],
      [t("token.id"), String(token.token)],
      ...(token.accepted_draft ? [[t("token.draft"), t("token.draft.accepted")]] : []),
    ])) {
      const row = document.createElement("div");
      const term = document.createElement("dt");
      const detail = document.createElement("dd");
      term.textContent = name;
      detail.textContent = value;
      row.append(term, detail);
      facts.append(row);
    }
    const heading = document.createElement("p");
    heading.className = "field-label";
    heading.textContent = t(this.can_branch ? "token.alternatives" : "token.alternatives.only");
    const list = document.createElement("ul");
    list.className = "alternatives";
    for (const alternative of token.alternatives) {
      const item = document.createElement("li");
      const branch = document.createElement("button");
      branch.type = "button";
      branch.disabled = !this.can_branch;
      const same = alternative.token === token.token;
      const spoken_label = document.createElement("span");
      spoken_label.className = "visually-hidden";
      spoken_label.textContent = t(same ? "token.branch.same" : "token.branch", { text: spokenText(alternative.text) });
      // White space is made visible for sighted users only.
      const text = document.createElement("span");
      text.className = "alternative-text";
      text.ariaHidden = "true";
      text.textContent = visible(alternative.text);
      const share = document.createElement("span");
      share.textContent = `${percent(alternative.probability)} %`;
      branch.append(spoken_label, text, share);
      branch.style.setProperty("--share", `${cssNumber(alternative.probability * 100)}%`);
      if (same) branch.setAttribute("aria-current", "true");
      branch.addEventListener("click", () => this.onBranch(index, alternative.token));
      item.append(branch);
      list.append(item);
    }
    this.panel.append(title, facts, heading, list);
    title.focus();
  }
}

/** CSS needs a decimal point in every language. @param {number} value */
const cssNumber = (value) => value.toFixed(2);

/** @param {number} probability */
const percent = (probability) => figure(probability * 100);
