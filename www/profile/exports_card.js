// @ts-check
// Exports of a run: files written by the engine, a link with the settings, a trace for Perfetto.

import { exportRun } from "../../pkg/zamba2.js";
import { currentLanguage, t } from "../words.js";
import { copyFrom } from "../copy_text.js";
import { button, card, element } from "../dom.js";
import { PageError } from "../errors.js";
import { saveFile } from "../save_file.js";
import { leaveTrace } from "./trace_handover.js";

/** @import { Run } from "../engine/zamba2.d.ts" */

/** @typedef {(thrown: unknown, retry: () => void) => void} OnFault */

const FORMATS = /** @type {const} */ ([
  { format: "markdown", suffix: "md", type: "text/markdown", key: "export.markdown" },
  { format: "json", suffix: "json", type: "application/json", key: "export.json" },
  { format: "csv", suffix: "csv", type: "text/csv", key: "export.csv" },
  { format: "trace", suffix: "trace.json", type: "application/json", key: "export.trace" },
]);

/** @param {Run} run @param {OnFault} onFault */
export function exportsCard(run, onFault) {
  /** @param {string} name @param {HTMLButtonElement} made */
  const named = (name, made) => {
    made.dataset.format = name;
    return made;
  };
  const link = named(
    "link",
    button(t("export.link"), () => copyFrom(link, "export.link", linkOf(run))),
  );
  const row = element(
    "div",
    "row",
    ...FORMATS.map((one) =>
      named(
        one.format,
        button(t(one.key), () => void save(run, one, onFault)),
      ),
    ),
    named(
      "perfetto",
      button(t("export.perfetto"), () => void openPerfetto(run, onFault)),
    ),
    link,
  );
  return card("profile-exports", t("export.title"), element("p", "note", t("export.note")), row);
}

/** A link to the Profile view with the settings of this run. @param {Run} run */
function linkOf({ prompt_tokens, decode_tokens, runs, conditions }) {
  const settings = new URLSearchParams({
    tokens: String(prompt_tokens),
    decode: String(decode_tokens),
    runs: String(runs.length),
    level: conditions.level,
  });
  return `${location.origin}${location.pathname}${location.search}#profile?${settings}`;
}

/** @param {Run} run @param {typeof FORMATS[number]} one @param {OnFault} onFault */
async function save(run, one, onFault) {
  const model = run.model.name.replace(/[^\w.-]+/g, "-");
  try {
    const contents = await exportRun(run, one.format, currentLanguage());
    saveFile(`${model}-${run.conditions.weights}-${run.prompt_tokens}-tokens.${one.suffix}`, contents, one.type);
  } catch (thrown) {
    onFault(thrown, () => void save(run, one, onFault));
  }
}

/**
 * The trace is written first. This is fast enough for the click still to count as user activation for `window.open`.
 * @param {Run} run
 * @param {OnFault} onFault
 */
async function openPerfetto(run, onFault) {
  try {
    if (!isSecureContext) {
      throw new PageError("no_storage", "export.perfetto.insecure", "export.perfetto.insecure.next");
    }
    await leaveTrace(await exportRun(run, "trace", currentLanguage()));
    window.open("www/perfetto.html", "_blank");
  } catch (thrown) {
    onFault(thrown, () => void openPerfetto(run, onFault));
  }
}
