// @ts-check
// Entry point of the page: creates the views and connects them, loads the chosen model, updates the status line and
// shows errors as cards. The views do not import each other.

import { open } from "../pkg/zamba2.js";
import { byId } from "./dom.js";
import { Bench } from "./profile/bench.js";
import { BlockPanel } from "./blocks/block_panel.js";
import { clearErrorCards, faultOf, faultText, redrawErrorCard, showErrorCard } from "./errors.js";
import { HeatMap } from "./blocks/heat_map.js";
import { isolate } from "./isolate.js";
import { adapterReasons } from "./loading/adapter_reasons.js";
import { Arrival } from "./loading/arrival.js";
import { kernelOptions, rememberKernels } from "./loading/kernel_choice.js";
import { remember, remembered } from "./preferences.js";
import { ModelPicker } from "./loading/model_picker.js";
import { Playground } from "./playground/playground.js";
import { Sampling } from "./playground/sampling.js";
import {
  bytesText,
  countText,
  currentLanguage,
  figure,
  nextLanguage,
  number,
  plural,
  renderMarkup,
  setLanguage,
  t,
  write,
} from "./words.js";
import { explainOutdated, keepOffline } from "./site.js";
import { shortCommit, StoragePanel } from "./loading/storage_panel.js";
import { Strip } from "./blocks/strip.js";
import { watchTimesWanted } from "./blocks/times_wanted.js";
import { CompareView } from "./compare/compare_view.js";
import { ProfileView } from "./profile/profile_view.js";
import { RunShelf } from "./profile/run_shelf.js";
import { readHash, Tabs } from "./tabs.js";

/** @import { LoadProgress, Model } from "./engine/zamba2.d.ts" */
/** @import { Isolation } from "./isolate.js" */
/** @import { Choice } from "./loading/model_picker.js" */
/** @import { Key } from "./words.js" */

/** For readability only: the details beside the status are not a live region. */
const DETAIL_INTERVAL_MS = 250;
/** No remaining time is shown before this, since the speed is not yet known. */
const SPEED_AFTER_MS = 300;

const errors = byId("errors");
const status = byId("status");
const cancel = byId("cancel-load");
const pause = byId("pause-load");
/** The model being loaded, for the pause button. @type {Model | null} */
let pending = null;
let paused = false;
/** @type {Model | null} */
let model = null;
/** @type {AbortController | null} */
let loading = null;
/** @type {Isolation | null} */
let isolation = null;

const strip = new Strip(byId("strip"), byId("strip-scale"), (cell) => panel.open(cell));
const panel = new BlockPanel(byId("block-panel"), strip, (block) => profile.result.ofBlock(block));
const heat = new HeatMap({
  canvas: byId("heat"),
  finding: byId("heat-finding"),
  table: byId("heat-table"),
  details: byId("heat-details"),
});
let times_every = 0;
watchTimesWanted({ strip: byId("strip"), heat: byId("heat-card") }, (every) => {
  times_every = every;
  (model ?? pending)?.timeBlocks(every);
});
const sampling = new Sampling(byId("sampling"));
const picker = new ModelPicker({
  onChoice: (choice, refresh) => loadModel(choice, refresh),
  onFault: (thrown) => showFault("card.load", faultOf(thrown)),
});
const arrival = new Arrival();
const kept = new StoragePanel(byId("kept"), {
  onFault: (title, thrown) => showFault(title, faultOf(thrown)),
  onRefresh: (model) => picker.refresh(model),
});
const shelf = new RunShelf();
const profile = new ProfileView({
  shelf,
  strip,
  onFault(thrown, retry) {
    const fault = faultOf(thrown);
    showFault("card.profile", fault, isGone(fault) ? () => loadModel(picker.chosen) : retry);
  },
  openBlock: (block) => strip.open(block),
  onShown: () => panel.renderProfile(),
});
const compare = new CompareView({
  shelf,
  strip,
  onFault(thrown, file) {
    const { code, message, values, next } = faultOf(thrown);
    showFault("card.run_file", { code, message, values, next, file });
  },
  onOpened: () => clearErrorCards(errors),
});
const letters = /** @type {HTMLInputElement} */ (byId("letter-keys"));
const tabs = new Tabs({
  letters,
  onShow: (view) => view === "compare" && void compare.draw(),
  keys: {
    s: () => profile.result.toggleTimes(),
    b: () => strip.cells.length && strip.focus(strip.focused),
    e: () => profile.result.focusExports(),
  },
  remember: (on) => remember("letter-keys", on ? "on" : "off"),
});
const playground = new Playground(sampling, {
  onStart() {
    write(status, model ? "status.prefill" : "status.early");
    heat.start(strip.info?.kinds ?? []);
  },
  onPrefill(block, prompt_tokens) {
    strip.sweep(block);
    detail(t("status.prefill.detail", { tokens: prompt_tokens, block }));
  },
  onToken(blocks_us) {
    strip.token(blocks_us);
    heat.token(blocks_us);
  },
  onLive({ tokens_per_s, ttft_ms, used }) {
    write(status, "status.generating");
    detail(
      t("status.generating.detail", {
        speed: tokens_per_s === null ? "–" : figure(tokens_per_s),
        ttft: number(ttft_ms),
        used: number(used),
        context: number(playground.context),
      }),
    );
  },
  onEnd(summary) {
    const speed = summary.decode_tokens_per_s;
    write(status, speed ? "status.done" : "status.done.short", {
      tokens: () => plural("count.tokens", summary.tokens),
      reason: () => t(/** @type {Key} */ (`reason.${summary.reason}`)),
      speed: () => figure(speed ?? 0),
    });
    detail("");
    strip.settle();
    heat.finish();
  },
  onError(thrown) {
    strip.settle();
    heat.finish();
    const fault = faultOf(thrown);
    write(status, "status.failed");
    detail("");
    showFault("card.run", fault, isGone(fault) ? () => loadModel(picker.chosen) : () => playground.run());
  },
  onFault: (title, thrown) => showFault(title, faultOf(thrown)),
});

/** Whether the engine is gone, so that a retry would fail too. @param {import("./errors.js").Fault} fault */
const isGone = (fault) => fault.fatal === true;

/** @param {string} text */
function detail(text) {
  byId("status-detail").textContent = text;
}

/** @param {Key} title @param {import("./errors.js").Fault} fault @param {() => void} [retry] */
function showFault(title, fault, retry) {
  const remedies = retry ? [{ label: /** @type {Key} */ ("card.retry"), act: retry }] : [];
  if (title === "card.load") remedies.push({ label: "card.embedded", act: () => picker.useEmbedded() });
  const facts = {
    source: picker.chosen.name,
    weights: picker.chosen.weights,
    backend: picker.chosen.backend,
    threads: picker.chosen.threads,
    isolated: crossOriginIsolated,
    cores: navigator.hardwareConcurrency,
  };
  showErrorCard(errors, title, fault, { remedies, facts });
  // Whatever failed, files of this build may be gone.
  void explainOutdated(errors, title, fault, facts);
}

/** Two models might not fit into memory. */
function dropModel() {
  playground.setModel(null);
  profile.setModel(null);
  model?.dispose();
  model = null;
  panel.close(false);
  strip.clear();
  clearErrorCards(errors);
}

/** @param {Choice} choice @param {boolean} [refresh]  newer files of the source replace stored ones */
async function loadModel(choice, refresh = false) {
  loading?.abort();
  const controller = new AbortController();
  loading = controller;
  dropModel();
  const { name, ...chosen } = choice;
  showTitle(name);
  write(status, "status.starting");
  detail("");
  cancel.hidden = false;
  write(cancel, "load.cancel");

  const started_ms = performance.now();
  /** @type {LoadProgress | null} */
  let latest = null;
  // On a timer, not on progress events: there are none while the network stalls, but the shown speed must fall.
  const ticking = setInterval(() => latest && showProgress(latest, performance.now() - started_ms), DETAIL_INTERVAL_MS);
  try {
    const loaded = open({
      ...chosen,
      relaxedSimd: picker.relaxedSimd,
      webgpu: kernelOptions(),
      refresh,
      signal: controller.signal,
      onProgress(progress) {
        if (controller.signal.aborted) return;
        strip.onProgress(progress);
        playground.onProgress(progress);
        if (progress.phase !== latest?.phase) showProgress(progress, performance.now() - started_ms);
        latest = progress;
      },
      onDevice: (event) => onDevice(event),
    });
    pending = loaded;
    loaded.timeBlocks(times_every);
    playground.setModel(loaded, choice);
    setPaused(false);
    pause.hidden = false;
    await loaded.ready;
    if (controller.signal.aborted) return loaded.dispose();
    model = loaded;
    rememberKernels(model.info.adapter);
  } catch (thrown) {
    const is_cancelled = controller.signal.aborted;
    if (is_cancelled && loading !== controller) return;
    loading = null;
    playground.setModel(null);
    detail("");
    write(status, is_cancelled ? "status.cancelled" : "status.failed");
    if (is_cancelled) return write(cancel, "load.again");
    cancel.hidden = true;
    strip.fail();
    return showFault("card.load", faultOf(thrown), () => loadModel(choice, refresh));
  } finally {
    clearInterval(ticking);
    if (loading === controller || loading === null) {
      pause.hidden = true;
      pending = null;
    }
    kept.show();
  }
  loading = null;
  cancel.hidden = true;
  strip.settle();
  if (!playground.running) showReady();
  showCapability();
  playground.setReady();
  profile.setModel(model);
  void keepOffline(model.info.build);
}

/** @param {LoadProgress} progress @param {number} elapsed_ms */
function showProgress(progress, elapsed_ms) {
  if (progress.phase === "ready") return;
  const from_device = progress.phase === "weights" && progress.origin === "device";
  write(status, playground.running ? "status.early" : from_device ? "status.reading" : `status.${progress.phase}`);
  if (progress.phase !== "weights") return detail(arrival.text(progress, "").replace(/^ · /, ""));
  // Stored bytes load much faster and would make the estimate too optimistic.
  const bytes_per_s = (progress.received_bytes || progress.loaded_bytes) / (elapsed_ms / 1000);
  const left_s = (progress.total_bytes - progress.loaded_bytes) / bytes_per_s;
  const left =
    elapsed_ms > SPEED_AFTER_MS && Number.isFinite(left_s)
      ? t("status.left", { seconds: number(Math.ceil(left_s)) })
      : "";
  detail(
    t("status.weights.detail", {
      ready: progress.blocks_ready,
      blocks: progress.n_blocks,
      loaded: bytesText(progress.loaded_bytes),
      total: bytesText(progress.total_bytes),
      speed: bytesText(bytes_per_s),
    }) + arrival.text(progress, left),
  );
}

/** @param {boolean} on */
function setPaused(on) {
  paused = on;
  pause.textContent = t(on ? "load.resume" : "load.pause");
}

/** Whether the weights are stored on this device, as text. @param {Model["info"]["keeping"]} keeping */
function keepingText({ state, reason }) {
  if (state === "off") return "";
  if (state === "kept") return t("status.kept");
  return reason === "insecure_page" || reason === "no_storage" || reason === "other_tab"
    ? t(`status.not_kept.${reason}`)
    : t("status.not_kept", { reason: reason ?? "" });
}

function showReady() {
  if (!model) return;
  const { info } = model;
  write(status, "status.ready");
  detail(
    t("status.ready.detail", {
      bytes: bytesText(strip.cells.reduce((sum, { bytes }) => sum + bytes, 0)),
      seconds: number(info.timing.load_ms / 1000, 1),
      parameters: countText(info.parameters),
      weights: info.weights,
    })
      + (info.commit ? t("status.commit", { commit: shortCommit(info.commit) }) : "")
      + keepingText(info.keeping),
  );
}

/** @param {string} name */
function showTitle(name) {
  const text = t("title.of", { model: name === "rustdoc-5m" ? "Zamba2" : name });
  byId("title").textContent = text;
  document.title = text;
}

/** Shows backend, threads and SIMD in use with the reasons, so that no slow path is hidden. */
function showCapability() {
  const isolation_text = t(crossOriginIsolated ? "cap.isolated" : "cap.not_isolated");
  /** @type {string[]} */
  const reasons = [];
  if (model) {
    const { info } = model;
    const relaxed = info.backend !== "cpu-simd128" && picker.relaxedSimd !== false;
    const threads = plural("cap.threads", info.threads);
    const parts = {
      simd: t(relaxed ? "cap.simd.relaxed" : "cap.simd.plain"),
      threads,
      isolation: isolation_text,
      adapter: info.adapter?.name ?? "",
    };
    byId("capability").textContent = t(info.adapter ? "cap.line.webgpu" : "cap.line", parts);
    if (info.adapter) reasons.push(...adapterReasons(info.adapter));
    if (info.backend_fault) reasons.push(t("cap.why.backend.fault", { fact: faultText(info.backend_fault) }));
    else reasons.push(t(info.backend_reason === "auto" ? "cap.why.backend.auto" : "cap.why.backend.asked"));
    reasons.push(t(`cap.why.threads.${info.threads_reason}`, { threads }));
    if (!info.adapter)
      reasons.push(
        t(
          relaxed ? "cap.why.simd.relaxed" : picker.relaxedSimd === false ? "cap.why.simd.asked" : "cap.why.simd.plain",
        ),
      );
  } else {
    byId("capability").textContent = t("cap.line.loading", { isolation: isolation_text });
  }
  if (isolation) reasons.push(t(`cap.why.${isolation}`));
  if (model) reasons.push(t("cap.why.clock", { us: figure(model.info.timing.clock_resolution_us) }));
  byId("capability-reasons").replaceChildren(
    ...reasons.map((reason) => {
      const item = document.createElement("li");
      item.textContent = reason;
      return item;
    }),
  );
}

/**
 * Loss of the graphics device, and recovery from it.
 * @param {import("./engine/zamba2.d.ts").DeviceEvent} event
 */
function onDevice(event) {
  if (event.state === "lost") {
    strip.clear();
    write(status, "status.device_lost");
    detail(faultText(event.fault));
    return;
  }
  strip.settle();
  if (playground.running) write(status, "status.generating");
  else showReady();
  showCapability();
}

const darkScheme = matchMedia("(prefers-color-scheme: dark)");
function isDark() {
  return (document.documentElement.dataset.theme ?? (darkScheme.matches ? "dark" : "light")) === "dark";
}

function showTheme() {
  byId("theme").textContent = t(isDark() ? "theme.light" : "theme.dark");
}

/** Renders all texts of the page in the current language. */
function renderWords() {
  renderMarkup();
  redrawErrorCard();
  const other = nextLanguage();
  byId("language").lang = other.code;
  byId("language").textContent = other.name;
  showTitle(picker.chosen.name);
  showCapability();
  showTheme();
  playground.showWords();
  if (playground.running) byId("run").textContent = t("stop");
  if (status.dataset.t === "status.ready") showReady();
  strip.settle();
  heat.finish();
  panel.render();
  panel.renderProfile();
  void profile.render();
  void compare.draw();
  setPaused(paused);
  kept.show();
}

byId("language").addEventListener("click", async () => {
  await setLanguage(nextLanguage().code);
  remember("language", currentLanguage());
  renderWords();
});
byId("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  remember("theme", document.documentElement.dataset.theme);
  showTheme();
});
darkScheme.addEventListener("change", showTheme);
pause.addEventListener("click", () => {
  setPaused(!paused);
  if (paused) pending?.pauseLoading();
  else pending?.resumeLoading();
});
cancel.addEventListener("click", () => (loading ? loading.abort() : loadModel(picker.chosen)));
for (const event of ["error", "unhandledrejection"]) {
  window.addEventListener(event, (/** @type {any} */ { error, reason, message }) => {
    showFault("card.page", faultOf(error ?? reason ?? message));
  });
}

// From here on this file reports failures itself, and not the script in index.html.
const { dataset } = document.documentElement;
dataset.started = "yes";
if (dataset.stopped === "start-note") {
  // A script that is not the page's had failed.
  for (const id of ["start-note", "status-line"]) byId(id).hidden = id === "start-note";
  delete dataset.stopped;
}

const theme = remembered("theme");
if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
// On a phone, open settings would push the output off the screen.
if (matchMedia("(max-width: 700px)").matches) {
  for (const id of ["sampling", "model"]) byId(id).removeAttribute("open");
}
letters.checked = remembered("letter-keys") !== "off";
renderWords();
const address = readHash(location.hash);
profile.useSettings(address.settings);
if (address.view) tabs.show(address.view, false);
window.addEventListener("hashchange", () => profile.useSettings(readHash(location.hash).settings));
// Before loading the model, which would otherwise load twice if the page has to reload.
isolation = await isolate();
showCapability();
// In a sandboxed frame there is a note instead of a model.
if (isolation !== "reloading" && !dataset.stopped) loadModel(picker.chosen);
if (new URLSearchParams(location.search).has("bench")) {
  new Bench(
    byId("bench"),
    () => model,
    (thrown) => showFault("card.page", faultOf(thrown)),
  );
}
