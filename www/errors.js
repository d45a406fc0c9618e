// @ts-check
// Error cards: what happened, in which file, what to do next, with buttons; never a dialog. It stands on strings.js.
// It decides nothing about recovery: the caller says which buttons make sense and what they do.

import { t } from "./strings.js";

/** @import { StringKey } from "./strings.js" */

/** @typedef {{ code: string, message: string, file: string | null, nextStep: string }} Fault */
/** @typedef {{ label: StringKey, act: () => void }} Remedy */

/** Any thrown value in the card's terms. @param {unknown} thrown @returns {Fault} */
export function faultOf(thrown) {
  if (thrown instanceof Error && "code" in thrown && "nextStep" in thrown) return /** @type {any} */ (thrown);
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return { code: "page", message, file: null, nextStep: "" };
}

/**
 * Shows one card in `place`, replacing an older one, and moves the keyboard to it.
 * @param {HTMLElement} place @param {StringKey} title @param {Fault} fault
 * @param {{ remedies: Remedy[], facts: Record<string, string | number | boolean> }} options
 */
export function showErrorCard(place, title, fault, { remedies, facts }) {
  const card = document.createElement("section");
  card.className = "card error-card";
  card.dataset.code = fault.code;
  card.setAttribute("role", "alert");

  const heading = document.createElement("h2");
  heading.textContent = t(title);
  heading.tabIndex = -1;
  const what = paragraph(sentence(fault.message));
  card.append(heading, what);
  if (fault.file) {
    const where = paragraph(t("error.file", { file: fault.file }));
    where.className = "error-file";
    card.append(where);
  }
  if (fault.nextStep) card.append(paragraph(fault.nextStep));

  const row = document.createElement("div");
  row.className = "row";
  remedies.forEach(({ label, act }, i) => row.append(button(t(label), i === 0, () => { clearErrorCards(place); act(); })));
  row.append(button(t("error.dismiss"), false, () => clearErrorCards(place)));
  card.append(row);

  const report = reportText(fault, facts);
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = t("error.details");
  const text = document.createElement("pre");
  text.textContent = report;
  text.tabIndex = 0;
  const copy = button(t("error.report"), false, async () => {
    await navigator.clipboard.writeText(report);
    copy.textContent = t("copied");
  });
  details.append(summary, text, copy);
  card.append(details);

  place.replaceChildren(card);
  heading.focus();
}

/** @param {HTMLElement} place */
export function clearErrorCards(place) {
  place.replaceChildren();
}

/** @param {string} text */
function paragraph(text) {
  const p = document.createElement("p");
  p.textContent = text;
  return p;
}

/** Engine messages are clauses; a card shows sentences. @param {string} text */
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

/** Everything a bug report needs; the prompt is left out because it is the reader's own. @param {Fault} fault @param {Record<string, string | number | boolean>} facts */
function reportText(fault, facts) {
  const lines = { code: fault.code, message: fault.message, file: fault.file ?? "-", ...facts, browser: navigator.userAgent };
  return Object.entries(lines).map(([name, value]) => `${name}: ${value}`).join("\n");
}
