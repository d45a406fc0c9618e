// @ts-check
// Tokens as text: with visible white space, and as words for screen readers.

import { t } from "./words.js";

/** Makes white space visible. @param {string} text */
export function visible(text) {
  const shown = text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "·");
  return shown === "" ? "∅" : shown;
}

/** The text of a token for screen readers. @param {string} text */
export function spokenText(text) {
  if (text.trim() !== "") return text.trim();
  return t(text.includes("\n") ? "token.newline" : text === "" ? "token.empty" : "token.space");
}
