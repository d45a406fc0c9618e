// @ts-check
// Renders sentences of a report, which are keys with values, in the language of the page, so a change of language needs
// no new summary. `src/report/sentence.rs` does the same for Markdown.

import { bytesText, number, significant, t, timeText } from "./words.js";

/** @import { Sentence, SentenceValue } from "./engine/zamba2.d.ts" */
/** @import { Key } from "./words.js" */

/** @param {Sentence} sentence */
export function sentenceText({ key, values }) {
  const texts = Object.entries(values).map(([name, value]) => [name, valueText(value)]);
  return t(/** @type {Key} */ (key), Object.fromEntries(texts));
}

/** @param {SentenceValue} value */
export function valueText(value) {
  if ("us" in value) return timeText(value.us);
  if ("bytes" in value) return bytesText(value.bytes);
  if ("figure" in value) return significant(value.figure);
  if ("whole" in value) return number(value.whole);
  if ("giga" in value) return number(value.giga[0] / 1e9, value.giga[1]);
  if ("grouped" in value) return number(value.grouped);
  if ("word" in value) return t(/** @type {Key} */ (value.word));
  return value.text;
}
