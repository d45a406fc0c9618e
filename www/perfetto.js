// @ts-check
// Script of perfetto.html: reads the trace that the Profile view stored on this device and sends it to
// ui.perfetto.dev with postMessage when the user clicks. Nothing is uploaded: Perfetto runs in its own tab.

import { takeTrace } from "./profile/trace_handover.js";
import { bytesText, renderMarkup, t } from "./words.js";

const PERFETTO = "https://ui.perfetto.dev";
/** Perfetto answers PING once it is ready to receive a trace. */
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
