// @ts-check
// Behaviour of perfetto.html: takes the trace that the Profile view left on this device and gives it to ui.perfetto.dev
// by message, when the user asks for it. Nothing is uploaded: Perfetto works inside its own tab.

import { takeTrace } from "./profile/trace_handover.js";
import { bytesText, renderMarkup, t } from "./words.js";

const PERFETTO = "https://ui.perfetto.dev";
/** Perfetto answers a PING only once it can take a trace. */
const PING_INTERVAL_MS = 50;

const button = /** @type {HTMLButtonElement} */ (document.getElementById("open"));
const state = /** @type {HTMLElement} */ (document.getElementById("state"));

/** @param {ArrayBuffer} trace */
function handOver(trace) {
  const perfetto = window.open(PERFETTO);
  if (!perfetto) {
    state.textContent = t("perfetto.blocked");
    return;
  }
  state.textContent = t("perfetto.waiting");
  const pinging = setInterval(() => perfetto.postMessage("PING", PERFETTO), PING_INTERVAL_MS);
  window.addEventListener("message", function answered({ origin, data }) {
    if (origin !== PERFETTO || data !== "PONG") return;
    clearInterval(pinging);
    window.removeEventListener("message", answered);
    perfetto.postMessage({ perfetto: { buffer: trace, title: "Zamba2" } }, PERFETTO);
    state.textContent = t("perfetto.done");
  });
}

renderMarkup();
document.title = t("perfetto.title");
const trace = await takeTrace();
if (trace) {
  button.disabled = false;
  button.addEventListener("click", () => handOver(trace));
  state.textContent = bytesText(trace.byteLength);
} else state.textContent = t("perfetto.none");
