// @ts-check
// Answers as Markdown: `marked` parses the text, and each kind of its tokens becomes an element here. No HTML is
// parsed, so HTML in an answer stays text. Images become links: loading one would be a request to a host of the model's
// choice.

import { copyFrom } from "../copy_text.js";
import { button, element, scrollBox } from "../dom.js";
import { t } from "../words.js";

/**
 * The properties of `marked`'s tokens that are used.
 * @typedef {object} Token
 * @property {string} type
 * @property {string} raw
 * @property {string} [text]
 * @property {Token[]} [tokens]
 * @property {number} [depth]
 * @property {string} [lang]
 * @property {boolean} [ordered]
 * @property {number | ""} [start]
 * @property {Token[]} [items]
 * @property {boolean} [checked]
 * @property {string} [href]
 * @property {Cell[]} [header]
 * @property {Cell[][]} [rows]
 */
/** @typedef {{ tokens: Token[] }} Cell */

/** The parser, fetched with the first answer: byte for byte the module of the npm package. */
const PARSER = new URL("./vendor/marked.js", import.meta.url);

const LINKS = ["https:", "http:", "mailto:"];
/** A turn's heading is an h3. */
const TOP_HEADING = 3;
const ENTITIES = new Map(Object.entries({ amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'", nbsp: "\u00a0" }));

/** Rejects if the parser cannot be loaded, or fails. @param {string} text @returns {Promise<Node[]>} */
export async function markdown(text) {
  const { lexer } = await import(PARSER.href);
  return blocks(lexer(text, { gfm: true, breaks: true }));
}

/** @param {Token[]} [tokens] @returns {Node[]} */
const blocks = (tokens = []) => tokens.flatMap(block);

/** @param {Token} token @returns {Node[]} */
function block(token) {
  switch (token.type) {
    case "space":
    case "def":
      return [];
    case "heading":
      return [element(`h${Math.min(6, TOP_HEADING + (token.depth ?? 1))}`, "", ...inlines(token.tokens))];
    case "paragraph":
      return [element("p", "", ...inlines(token.tokens))];
    case "blockquote":
      return [element("blockquote", "", ...blocks(token.tokens))];
    case "hr":
      return [document.createElement("hr")];
    case "code":
      return [code(token.text ?? "")];
    case "list":
      return [list(token)];
    case "table":
      return [table(token)];
    case "html":
      return [element("p", "", token.raw)];
    default:
      return [inline(token)];
  }
}

/** @param {string} text */
function code(text) {
  const pre = element("pre", "", element("code", "", text));
  // Focusable, so that a long line is scrolled by keyboard.
  pre.tabIndex = 0;
  const copy = button(t("turn.copy"), () => copyFrom(copy, "turn.copy", text));
  return element("div", "code", pre, copy);
}

/** @param {Token} token */
function list({ ordered, start, items = [] }) {
  const made = element(ordered ? "ol" : "ul", "", ...items.map((item) => element("li", "", ...blocks(item.tokens))));
  if (ordered && typeof start === "number") made.setAttribute("start", String(start));
  return made;
}

/** @param {Token} token */
function table({ header = [], rows = [] }) {
  const cells = (/** @type {"th" | "td"} */ tag, /** @type {Cell[]} */ row) =>
    element("tr", "", ...row.map(({ tokens }) => element(tag, "", ...inlines(tokens))));
  const head = element("thead", "", cells("th", header));
  const body = element("tbody", "", ...rows.map((row) => cells("td", row)));
  return scrollBox(t("chat.table"), element("table", "", head, body));
}

/** @param {Token[]} [tokens] @returns {Node[]} */
const inlines = (tokens = []) => tokens.map(inline);

/** @param {Token} token @returns {Node} */
function inline(token) {
  const { type, raw, text = "", tokens, href = "", checked } = token;
  switch (type) {
    case "strong":
    case "em":
    case "del":
      return element(type, "", ...inlines(tokens));
    case "codespan":
      return element("code", "", text);
    case "br":
      return document.createElement("br");
    case "link":
      return link(href, inlines(tokens));
    case "image":
      return link(href, [document.createTextNode(text || href)]);
    case "checkbox":
      return document.createTextNode(checked ? "☑ " : "☐ ");
    case "escape":
      return document.createTextNode(text);
    case "text":
      return tokens ? element("span", "", ...inlines(tokens)) : document.createTextNode(withoutEntities(text));
    default:
      return document.createTextNode(raw);
  }
}

/**
 * A link, or its text if the target is neither a page nor a mail address. @param {string} href @param {Node[]} children
 */
function link(href, children) {
  const address = parsed(href);
  if (!address || !LINKS.includes(address.protocol)) return element("span", "", ...children);
  const made = element("a", "", ...children);
  made.setAttribute("href", address.href);
  made.setAttribute("target", "_blank");
  made.setAttribute("rel", "noopener noreferrer nofollow");
  return made;
}

/** `URL.parse` is newer than the browsers that the page supports. @param {string} href */
function parsed(href) {
  try {
    return new URL(href);
  } catch {
    return null;
  }
}

/** @param {string} text */
const withoutEntities = (text) => text.replaceAll(/&(\w+|#39);/g, (whole, name) => ENTITIES.get(name) ?? whole);
