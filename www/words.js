// @ts-check
// Localised texts and number formats of the page. The texts are in words/*.json, one file per language; importing this
// module waits for the file of the current language.

import { LANGUAGE_FILES } from "./languages.js";

/** @typedef {keyof typeof import("./words/en.json")} Key */
/** @template {string} K @typedef {K extends `${infer Base}.other` ? Base : never} BaseOf */
/** Texts with one form per plural category: `.one`, `.few`, `.many`, `.other`. @typedef {BaseOf<Key>} CountedKey */
/** Values of placeholders: text, numbers, lists, reasons of errors, or functions for language-dependent values. */
/** @typedef {Record<string, unknown>} Values */

export const LANGUAGES = Object.keys(LANGUAGE_FILES);

const UNITS = /** @type {const} */ (["unit.B", "unit.kB", "unit.MB", "unit.GB"]);

/** @type {Map<string, Record<string, string>>} */
const loaded = new Map();
/** The texts of `language`. @type {Record<string, string>} */
let words = {};
let language = "en";
/** Placeholder values of elements filled by `write`. @type {WeakMap<Element, Values>} */
const written = new WeakMap();

/** Fetched, not imported: import attributes need Chrome 123, Firefox 138 or Safari 17.2. @param {string} code */
async function load(code) {
  const known = loaded.get(code);
  if (known) return known;
  const response = await fetch(LANGUAGE_FILES[code]);
  if (!response.ok) throw new Error(`words/${code}.json: ${response.status}`);
  const fresh = await response.json();
  loaded.set(code, fresh);
  return fresh;
}

/** The stored choice, or the browser's first supported language. */
function preferred() {
  let chosen = null;
  try {
    chosen = localStorage.getItem("language");
  } catch {
    // Storage is not available, for example in a private window.
  }
  const wanted = [chosen, ...navigator.languages].map((tag) => tag?.split("-")[0] ?? "");
  return wanted.find((code) => LANGUAGES.includes(code)) ?? "en";
}

try {
  language = preferred();
  words = await load(language);
} catch (error) {
  // The markup is in English, so the page stays readable; everything else needs the texts.
  const note = document.getElementById("words-note");
  if (note) note.hidden = false;
  document.documentElement.dataset.stopped = "words-note";
  throw error;
}

export const currentLanguage = () => language;

/** The language after the current one, named in itself. */
export function nextLanguage() {
  const code = LANGUAGES[(LANGUAGES.indexOf(language) + 1) % LANGUAGES.length];
  const name = new Intl.DisplayNames(code, { type: "language" }).of(code) ?? code;
  return { code, name: name.charAt(0).toLocaleUpperCase(code) + name.slice(1) };
}

/** Keeps the current language if the texts of the other one cannot be loaded. @param {string} chosen */
export async function setLanguage(chosen) {
  words = await load(chosen);
  language = chosen;
}

/** Fills every element that has `data-t` or `data-t-label` in the current language. */
export function renderMarkup() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-t]")) render(element);
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(/** @type {Key} */ (element.getAttribute("data-t-label"))));
  }
}

/** @param {Element} element */
function render(element) {
  const text = t(/** @type {Key} */ (element.getAttribute("data-t")), written.get(element));
  // Setting the same text again would make a screen reader announce it again.
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Sets the text of `element` to a key, so that it follows changes of language.
 * @param {Element} element @param {Key} key @param {Values} [values]
 */
export function write(element, key, values = {}) {
  written.set(element, values);
  element.setAttribute("data-t", key);
  render(element);
}

/** @param {Element} element */
export function erase(element) {
  element.removeAttribute("data-t");
  element.textContent = "";
}

/** @param {Key} key @param {Values} [values] @returns {string} */
export function t(key, values = {}) {
  const template = words[key] ?? key;
  return template.replace(/\{(\w+)(:size)?\}/g, (_, name, size) => {
    return size ? bytesText(Number(values[name])) : valueText(values[name]);
  });
}

/** @param {any} value @returns {string} */
function valueText(value) {
  if (typeof value === "function") return value();
  if (Array.isArray(value)) return `[${value.join(", ")}]`;
  if (value && typeof value === "object") return t(/** @type {Key} */ (`fact.${value.id}`), value);
  return String(value);
}

/** Whether there is a text with this key. @param {string} key @returns {key is Key} */
export const isKey = (key) => key in words;

/** The plural form for `n` in the current language. @param {CountedKey} key @param {number} n */
export function plural(key, n) {
  const form = `${key}.${new Intl.PluralRules(language).select(n)}`;
  return t(isKey(form) ? form : `${key}.other`, { n: number(n) });
}

/**
 * NaN is a dash: a share of no time, as measured by a coarse clock, is undefined.
 * @param {number} value @param {number} [digits] fixed number of decimals
 */
export function number(value, digits = 0) {
  if (Number.isNaN(value)) return "–";
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(language, options).format(value);
}

/** Three significant digits, for times from microseconds to seconds. @param {number} value */
export function figure(value) {
  if (value >= 100) return number(value);
  return number(value, value >= 10 ? 1 : value >= 1 ? 2 : 3);
}

/** For quantities that span many powers of ten. @param {number} value @param {number} [digits] significant digits */
export function significant(value, digits = 3) {
  return new Intl.NumberFormat(language, { maximumSignificantDigits: digits }).format(value);
}

/** A Kullback-Leibler divergence; very small ones are shown as below a bound. @param {number} nats */
export const natsText = (nats) => (nats < 0.001 ? t("nats.least") : significant(nats, 3));

/** A time in milliseconds, from hours down to a microsecond. @param {number} us */
export function msText(us) {
  return us >= 100 ? figure(us / 1000) : significant(us / 1000, 2);
}

/** A time in its unit: 9.38 ms, 630 µs. @param {number} us */
export function timeText(us) {
  if (us >= 1e6) return `${significant(us / 1e6)} ${t("report.unit.s")}`;
  if (us >= 1e3) return `${significant(us / 1e3)} ${t("report.unit.ms")}`;
  return `${significant(us)} ${t("report.unit.us")}`;
}

const PREFIXES = ["", "k", "M", "G", "T", "P"];

/** The power of 1000 that leaves one to three digits before the point. @param {number} value not negative */
export const scaleOf = (value) =>
  value >= 1000 ? Math.min(PREFIXES.length - 1, Math.floor(Math.log10(value) / 3 + 1e-12)) : 0;

/** kFLOP, MFLOP, GFLOP. @param {number} scale @param {"FLOP" | "FLOP/s"} unit */
export const scaledUnit = (scale, unit) => PREFIXES[scale] + unit;

/**
 * 554 MFLOP. Values that are shown together share one scale.
 * @param {number} value @param {"FLOP" | "FLOP/s"} unit @param {{ scale?: number, digits?: number }} [options]
 */
export const scaledText = (value, unit, { scale = scaleOf(value), digits = 3 } = {}) =>
  `${significant(value / 1000 ** scale, digits)} ${scaledUnit(scale, unit)}`;

/** Decimal units, as on the Hub. @param {number} bytes */
export function bytesText(bytes) {
  let power = 0;
  while (bytes >= 1000 && power < 3) {
    bytes /= 1000;
    power += 1;
  }
  return `${number(bytes, power === 0 || bytes >= 100 ? 0 : bytes >= 10 ? 1 : 2)} ${t(UNITS[power])}`;
}

/** 5.4 M, 1.22 B. @param {number} count */
export function countText(count) {
  return new Intl.NumberFormat(language, { notation: "compact", maximumSignificantDigits: 3 }).format(count);
}
