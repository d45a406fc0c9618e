// @ts-check
// Error cards: the message, the file, the next step and buttons for recovery, which the caller provides.

import { copyFrom } from "./copy_text.js";
import { isKey, t } from "./words.js";

/** @import { Key, Values } from "./words.js" */

/**
 * The content of a card: an error of the engine, whose texts are found by `code` and `next`, or a `PageError`.
 * @typedef {{ code: string, message: string, values?: Values, next?: string | null, file?: string | null,
 *   fatal?: boolean,
 *   key?: Key, next_key?: Key }} Fault
 */
/** @typedef {{ label: Key, act: () => void }} Remedy */
/** @typedef {Record<string, string | number | boolean>} Facts */
/** @typedef {{ remedies: Remedy[], facts: Facts, onDismiss?: () => void }} CardOptions */

/** @typedef {{ place: HTMLElement, title: Key, fault: Fault, options: CardOptions }} Card */

/** The open card, kept for redrawing in another language. @type {Card | null} */
let open_card = null;

/** An error of the page itself, with its own texts. */
export class PageError extends Error {
  /** @param {string} code @param {Key} key @param {Key} next @param {Values} [values] */
  constructor(code, key, next, values = {}) {
    super(t(key, values));
    this.code = code;
    this.key = key;
    this.next_key = next;
    this.values = values;
  }
}

/** Converts any thrown value for the card. @param {unknown} thrown @returns {Fault} */
export function faultOf(thrown) {
  if (thrown instanceof Error && "code" in thrown && "values" in thrown) return /** @type {any} */ (thrown);
  return { code: "page", message: thrown instanceof Error ? thrown.message : String(thrown) };
}

/** The message in the current language, or `message` if there is no text for the code. @param {Fault} fault */
export function faultText(fault) {
  const key = fault.key ?? `error.${fault.code}`;
  if (!fault.values || !isKey(key)) return fault.message;
  return t(key, fault.values) + ("attempts" in fault.values ? t("fact.attempts", fault.values) : "");
}

/** @param {Fault} fault */
function nextStep(fault) {
  const usual = `error.${fault.code}.next`;
  const key = fault.next_key ?? (fault.next ? `${usual}.${fault.next}` : usual);
  return isKey(key) ? t(key, fault.values) : "";
}

/**
 * Shows a card in `place`, replacing an older one, and moves focus to it.
 * @param {HTMLElement} place @param {Key} title @param {Fault} fault @param {CardOptions} options
 */
export function showErrorCard(place, title, fault, options) {
  open_card = { place, title, fault, options };
  drawCard(open_card).focus();
}

/** Redraws the open card after a change of language. */
export function redrawErrorCard() {
  if (!open_card) return;
  const was_open = open_card.place.querySelector("details")?.open ?? false;
  drawCard(open_card);
  const details = open_card.place.querySelector("details");
  if (details) details.open = was_open;
}

/** @param {Card} card */
function drawCard({ place, title, fault, options: { remedies, facts, onDismiss } }) {
  const card = document.createElement("section");
  card.className = "card error-card";
  card.dataset.code = fault.code;
  card.setAttribute("role", "alert");

  const heading = document.createElement("h2");
  heading.textContent = t(title);
  heading.tabIndex = -1;
  const what = paragraph(sentence(faultText(fault)));
  card.append(heading, what);
  if (fault.file) {
    const where = paragraph(t("card.file", { file: fault.file }));
    where.className = "error-file";
    card.append(where);
  }
  const next = nextStep(fault);
  if (next) card.append(paragraph(next));

  const row = document.createElement("div");
  row.className = "row";
  remedies.forEach(({ label, act }, i) => {
    row.append(
      button(t(label), i === 0, () => {
        clearErrorCards(place);
        act();
      }),
    );
  });
  const dismiss = () => {
    clearErrorCards(place);
    onDismiss?.();
  };
  row.append(button(t("card.dismiss"), false, dismiss));
  card.append(row);

  const report = reportText(fault, facts);
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = t("card.details");
  const text = document.createElement("pre");
  text.textContent = report;
  text.tabIndex = 0;
  const copy = button(t("card.report"), false, () => copyFrom(copy, "card.report", report));
  details.append(summary, text, copy);
  card.append(details);

  place.replaceChildren(card);
  return heading;
}

/** @param {HTMLElement} place */
export function clearErrorCards(place) {
  open_card = null;
  place.replaceChildren();
}

/** @param {string} text */
function paragraph(text) {
  const p = document.createElement("p");
  p.textContent = text;
  return p;
}

/** Engine messages are clauses; this makes a sentence of them. @param {string} text */
function sentence(text) {
  const upper = /^[\w-]+\.\w/.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(upper) ? upper : `${upper}.`;
}

/** @param {string} label @param {boolean} primary @param {() => void} act */
function button(label, primary, act) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = label;
  if (primary) element.className = "primary";
  element.addEventListener("click", act);
  return element;
}

/**
 * The text for a bug report. The prompt is left out, because it is private.
 * @param {Fault} fault @param {CardOptions["facts"]} facts
 */
function reportText(fault, facts) {
  const { code, message } = fault;
  const lines = { code, message, file: fault.file ?? "-", ...facts, browser: navigator.userAgent };
  return Object.entries(lines)
    .map(([name, value]) => `${name}: ${value}`)
    .join("\n");
}
