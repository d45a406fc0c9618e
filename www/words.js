// @ts-check
// Every word the page shows, in its language, and how numbers are written in it. The sentences are words/*.json, one
// file per language; importing this module waits for the present language's.

/** @typedef {keyof typeof import("./words/en.json")} Key */
/** @template {string} K @typedef {K extends `${infer Base}.other` ? Base : never} BaseOf */
/** Sentences with a form per plural category, `.one`, `.few`, `.many`, `.other`. @typedef {BaseOf<Key>} CountedKey */
/** A value is text, a number, a list, a reason of an error, or a function for what depends on the language itself. */
/** @typedef {Record<string, unknown>} Values */

/** The files of words/. A new language is its file and its name here. */
export const LANGUAGES = ["en", "ru"];

const UNITS = /** @type {const} */ (["unit.B", "unit.kB", "unit.MB", "unit.GB"]);

/** @type {Map<string, Record<string, string>>} */
const loaded = new Map();
/** The words of `language`. @type {Record<string, string>} */
let words = {};
let language = "en";
/** Values of elements that `write` filled. @type {WeakMap<Element, Values>} */
const written = new WeakMap();

/** Fetched, not imported: import attributes need Chrome 123, Firefox 138 or Safari 17.2. @param {string} code */
async function load(code) {
  const known = loaded.get(code);
  if (known) return known;
  const response = await fetch(new URL(`./words/${code}.json`, import.meta.url));
  if (!response.ok) throw new Error(`words/${code}.json: ${response.status}`);
  const fresh = await response.json();
  loaded.set(code, fresh);
  return fresh;
}

/** The language chosen before, or the first of the browser's that there is. */
function preferred() {
  let chosen = null;
  try {
    chosen = localStorage.getItem("language");
  } catch {
    // Storage is refused in some private windows.
  }
  const wanted = [chosen, ...navigator.languages].map((tag) => tag?.split("-")[0] ?? "");
  return wanted.find((code) => LANGUAGES.includes(code)) ?? "en";
}

try {
  language = preferred();
  words = await load(language);
} catch (error) {
  // The markup is English; nothing else can be shown without words.
  const note = document.getElementById("words-note");
  if (note) note.hidden = false;
  document.documentElement.dataset.stopped = "words-note";
  throw error;
}

export const currentLanguage = () => language;

/** The language after the present one, as its speakers call it. */
export function nextLanguage() {
  const code = LANGUAGES[(LANGUAGES.indexOf(language) + 1) % LANGUAGES.length];
  const name = new Intl.DisplayNames(code, { type: "language" }).of(code) ?? code;
  return { code, name: name.charAt(0).toLocaleUpperCase(code) + name.slice(1) };
}

/** Stays with the present language if the other one's words do not arrive. @param {string} chosen */
export async function setLanguage(chosen) {
  words = await load(chosen);
  language = chosen;
}

/** Writes the words of every element that has `data-t`, in the present language. */
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
  // Writing the same words again would make a screen reader say them again.
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Gives `element` words that follow the language.
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

/** Whether there is such a sentence. @param {string} key @returns {key is Key} */
export const isKey = (key) => key in words;

/** The form of a counted word that this language asks for. @param {CountedKey} key @param {number} n */
export function plural(key, n) {
  const form = `${key}.${new Intl.PluralRules(language).select(n)}`;
  return t(isKey(form) ? form : `${key}.other`, { n: number(n) });
}

/**
 * NaN is a dash: shares of no time, as a coarse clock measures it, are none.
 * @param {number} value @param {number} [digits] decimals, always written
 */
export function number(value, digits = 0) {
  if (Number.isNaN(value)) return "–";
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(language, options).format(value);
}

/** Three significant digits, for times that span microseconds to seconds. @param {number} value */
export function figure(value) {
  if (value >= 100) return number(value);
  return number(value, value >= 10 ? 1 : value >= 1 ? 2 : 3);
}

/** For quantities that span many powers of ten. @param {number} value @param {number} [digits] significant ones */
export function significant(value, digits = 3) {
  return new Intl.NumberFormat(language, { maximumSignificantDigits: digits }).format(value);
}

/** A time in milliseconds, from hours down to single microseconds. @param {number} us */
export function msText(us) {
  return us >= 100 ? figure(us / 1000) : significant(us / 1000, 2);
}

/** Decimal units, as the Hub counts. @param {number} bytes */
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
