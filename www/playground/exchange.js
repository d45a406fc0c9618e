// @ts-check
// One exchange with the model (prompt, settings, answer), as it is stored in the history, exported and saved in state
// files.

import { NUMBER_OPTIONS } from "../../pkg/zamba2.js";
import { byId } from "../dom.js";
import { PageError } from "../errors.js";
import { saveFile } from "../save_file.js";
import { number, t } from "../words.js";

/** @import { ChatMessage, GenerateOptions, Piece, RunSummary, TokenRank } from "../engine/zamba2.d.ts" */
/** @import { Key } from "../words.js" */

/**
 * A generated token as stored by the page.
 * @typedef {object} Token
 * @property {number} token
 * @property {string} text  of this token alone
 * @property {number} probability  before penalty, temperature and filters
 * @property {number} drawn_probability  after penalty, temperature and filters
 * @property {number} rank
 * @property {number} us
 * @property {boolean} [accepted_draft]  older state files have none
 * @property {{ token: number, text: string, probability: number }[]} alternatives
 */

/**
 * @typedef {object} Exchange
 * @property {string} id
 * @property {"raw" | "chat"} mode
 * @property {string} prompt  the text, or the last message
 * @property {string} system
 * @property {ChatMessage[]} turns  the earlier turns, without the system message
 * @property {GenerateOptions} settings
 * @property {{ name: string, weights: string }} model
 * @property {string} text  the generated text
 * @property {Token[]} tokens
 * @property {number | null} prompt_tokens
 * @property {RunSummary | null} summary
 * @property {number} made_ms  since 1970
 */

/** @param {Piece} piece @returns {Token} */
export function tokenOf({ token, probability: drawn_probability, token_rank, us, accepted_draft }) {
  const { text, rank, probability, alternatives } = /** @type {TokenRank} */ (token_rank);
  return { token, text, probability, drawn_probability, rank, us, accepted_draft, alternatives };
}

/** @param {Exchange} exchange */
export function asJson(exchange) {
  return JSON.stringify({ schema: "zamba2-exchange/1", ...exchange }, null, 1);
}

/**
 * Parses the output of `asJson`; throws for anything else.
 * @param {string} text @returns {Exchange}
 */
export function parseExchange(text) {
  /** @type {any} */
  let exchange = null;
  try {
    exchange = JSON.parse(text);
  } catch {
    // Reported below.
  }
  if (
    isEntry(exchange)
    && Array.isArray(/** @type {any} */ (exchange).tokens)
    && /** @type {any} */ (exchange).tokens.every(isToken)
  ) {
    // Files of earlier versions have no id.
    exchange.id ??= newId();
    return /** @type {Exchange} */ (exchange);
  }
  throw new PageError("bad_snapshot", "state.foreign", "state.foreign.next");
}

/**
 * Whether `entry` is an exchange, apart from its tokens.
 * @param {any} entry
 * @returns {entry is Omit<Exchange, "tokens">}
 */
export const isEntry = (entry) =>
  ["raw", "chat"].includes(entry?.mode)
  && typeof entry.prompt === "string"
  && typeof entry.text === "string"
  && typeof entry.system === "string"
  && Number.isFinite(entry.made_ms)
  && Array.isArray(entry.turns)
  && entry.turns.every((/** @type {any} */ turn) => typeof turn?.role === "string" && typeof turn.content === "string")
  && typeof entry.settings === "object"
  && entry.settings !== null
  && typeof entry.model?.name === "string"
  && typeof entry.model.weights === "string";

/** Whether an answer was stopped, failed or ended with the page. @param {RunSummary | null} summary */
export const isUnfinished = (summary) => !summary || summary.reason === "aborted";

/** @param {any} token */
const isToken = (token) =>
  typeof token?.text === "string"
  && Array.isArray(token.alternatives)
  && [token.token, token.probability, token.drawn_probability, token.rank, token.us].every(Number.isFinite)
  && token.alternatives.every(
    (/** @type {any} */ one) =>
      typeof one?.text === "string" && Number.isFinite(one.token) && Number.isFinite(one.probability),
  );

/** The exchange as Markdown, in the page's language. @param {Exchange} exchange */
export function asMarkdown(exchange) {
  const { model, settings, summary, made_ms } = exchange;
  const lines = [`# ${t("exchange.heading", { model: model.name })}`, ""];
  lines.push(
    `- ${t("exchange.made")}: ${new Date(made_ms).toISOString()}`,
    `- ${t("model.weights")}: ${model.weights}`,
  );
  for (const [name, value] of Object.entries(settings)) {
    const shown = Array.isArray(value) ? value.map((stop) => JSON.stringify(stop)).join(", ") : String(value);
    if (shown !== "") lines.push(`- ${labelOf(name)}: ${shown}`);
  }
  if (summary) {
    lines.push(`- ${t("metric.tokens")}: ${summary.tokens}`);
    if (summary.decode_tokens_per_s) lines.push(`- ${t("metric.decode")}: ${number(summary.decode_tokens_per_s, 2)}`);
    lines.push(`- ${t("metric.reason")}: ${t(/** @type {Key} */ (`reason.${summary.reason}`))}`);
  }
  const sections =
    exchange.mode === "raw"
      ? [
          [t("prompt.title"), exchange.prompt],
          [t("output.title"), exchange.text],
        ]
      : [
          ...(exchange.system ? [[t("chat.system"), exchange.system]] : []),
          ...exchange.turns.map(({ role, content }) => [t(role === "user" ? "chat.user" : "chat.assistant"), content]),
          [t("chat.user"), exchange.prompt],
          [t("chat.assistant"), exchange.text],
        ];
  for (const [heading, text] of sections) lines.push("", `## ${heading}`, "", fenced(text));
  return `${lines.join("\n")}\n`;
}

/** The label of a setting; a state file may have unknown ones. @param {string} setting */
function labelOf(setting) {
  const option = NUMBER_OPTIONS.find(({ name }) => name === setting);
  if (option) return t(`option.${option.name}`);
  return setting === "stop" ? t("exchange.stop") : setting;
}

/** A fenced block; the fence is longer than any run of backticks in the text. @param {string} text */
function fenced(text) {
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((ticks) => ticks.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}text\n${text}\n${fence}`;
}

/** Connects the page's buttons that save the shown exchange. @param {() => Exchange | null} shown */
export function offerExports(shown) {
  /** @param {string} id @param {string} ending @param {string} type @param {(exchange: Exchange) => string} write */
  const offer = (id, ending, type, write) =>
    byId(id).addEventListener("click", () => {
      const exchange = shown();
      if (exchange) saveFile(`zamba2.${ending}`, write(exchange), type);
    });
  offer("export-markdown", "md", "text/markdown", asMarkdown);
  offer("export-json", "json", "application/json", asJson);
}

/** Random, because several tabs make exchanges; `crypto.randomUUID` exists in secure contexts only. */
const newId = () => Array.from(crypto.getRandomValues(new Uint32Array(3)), (part) => part.toString(36)).join("");

/**
 * An exchange without its answer.
 * @param {Pick<Exchange, "mode" | "prompt" | "system" | "turns" | "settings" | "model">} asked @returns {Exchange}
 */
export const newExchange = (asked) => ({
  ...asked,
  id: newId(),
  text: "",
  tokens: [],
  prompt_tokens: null,
  summary: null,
  made_ms: Date.now(),
});
