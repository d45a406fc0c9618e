// @ts-check
// Entry point of the page: creates the views and connects them, loads the chosen model, updates the status line and
// shows errors as cards. The views do not import each other.

import { parseAddress } from "../pkg/zamba2.js";
import { byId } from "./dom.js";
import { Bench } from "./profile/bench.js";
import { BlockPanel } from "./blocks/block_panel.js";
import { clearErrorCards, faultOf, faultText, redrawErrorCard, showErrorCard } from "./errors.js";
import { HeatMap } from "./blocks/heat_map.js";
import { HelpSheet } from "./help_sheet.js";
import { InsideView } from "./inside/inside_view.js";
import { isolate } from "./isolate.js";
import { showCapability } from "./loading/capability.js";
import { listenForDrops } from "./loading/dropped_files.js";
import { ModelLoads } from "./loading/model_loads.js";
import { ModelPanel } from "./loading/model_panel.js";
import { remember, remembered } from "./preferences.js";
import { ModelPicker } from "./loading/model_picker.js";
import { Playground } from "./playground/playground.js";
import { Sampling } from "./playground/sampling.js";
import { currentLanguage, figure, nextLanguage, number, plural, renderMarkup, setLanguage, t, write } from "./words.js";
import { explainOutdated, keepOffline } from "./site.js";
import { StatusLine } from "./loading/status_line.js";
import { StoragePanel } from "./loading/storage_panel.js";
import { Strip } from "./blocks/strip.js";
import { watchTimesWanted } from "./blocks/times_wanted.js";
import { CompareView } from "./compare/compare_view.js";
import { ProfileView } from "./profile/profile_view.js";
import { RunShelf } from "./profile/run_shelf.js";
import { readHash, Tabs } from "./tabs.js";

/** @import { Isolation } from "./isolate.js" */
/** @import { Choice } from "./loading/model_picker.js" */
/** @import { Key } from "./words.js" */

const errors = byId("errors");
const status = new StatusLine();
const cancel = byId("cancel-load");
const pause = byId("pause-load");
let paused = false;
/** Repeats the load that was stopped. @type {() => void} */
let again = () => {};
/** @type {Isolation | null} */
let isolation = null;

const strip = new Strip(byId("strip"), byId("strip-scale"), (cell) => {
  // In the Inside view a click chooses the block to leave out.
  const chosen = tabs.shown === "inside" && inside.choose(strip.blocks.indexOf(cell));
  if (!chosen) panel.open(cell);
});
const panel = new BlockPanel(byId("block-panel"), strip, (block) => profile.result.ofBlock(block));
const heat = new HeatMap({
  canvas: byId("heat"),
  finding: byId("heat-finding"),
  table: byId("heat-table"),
  details: byId("heat-details"),
});
let times_every = 0;
const sampling = new Sampling(byId("sampling"));
const picker = new ModelPicker({
  onChoice: (choice, refresh) => loadModel(choice, refresh),
  onFault: (thrown) => showFault("card.load", faultOf(thrown)),
});
const kept = new StoragePanel(byId("kept"), {
  onFault: (title, thrown) => showFault(title, faultOf(thrown)),
  onOpen: (model, refresh) => picker.openKept(model, refresh),
});
const model_panel = new ModelPanel(picker, kept);
const shelf = new RunShelf();
const profile = new ProfileView({
  shelf,
  strip,
  onFault(thrown, retry) {
    const fault = faultOf(thrown);
    showFault("card.profile", fault, isGone(fault) ? reload : retry);
  },
  openBlock(block, opener) {
    const cell = strip.blocks[block];
    if (!cell) return;
    strip.focus(strip.cells.indexOf(cell), false);
    panel.open(cell, opener);
  },
  onShown: () => panel.render(),
  isGenerating: () => playground.running !== null,
});
const compare = new CompareView({
  shelf,
  strip,
  onFault(thrown, file) {
    const { code, message, values, next } = faultOf(thrown);
    showFault("card.run_file", { code, message, values, next, file });
  },
  onOpened() {
    clearErrorCards(errors);
    tabs.show("compare", true);
  },
});
const inside = new InsideView({
  strip,
  prompt: () => playground.prompt.value,
  isGenerating: () => playground.running !== null,
  onFault(thrown, retry) {
    const fault = faultOf(thrown);
    showFault("card.inside", fault, isGone(fault) ? reload : retry);
  },
});
const help = new HelpSheet();
const letters = /** @type {HTMLInputElement} */ (byId("letter-keys"));
const tabs = new Tabs({
  letters,
  onShow(view) {
    if (view === "compare") void compare.draw();
    if (view === "inside") inside.lookIfShown();
    if (view === "profile") void profile.opened();
  },
  keys: {
    s: () => profile.result.toggleTimes(),
    b: () => strip.cells.length && strip.focus(strip.focused),
    e: () => profile.result.focusExports(),
    "?": () => help.toggle(),
  },
  remember: (on) => remember("letter-keys", on ? "on" : "off"),
});
const playground = new Playground(sampling, {
  onStart(has_prompt) {
    inside.stop();
    status.show(!loads.model ? "status.early" : has_prompt ? "status.prefill" : "status.generating");
    heat.start(strip.info?.kinds ?? []);
  },
  onPrefill(block, prompt_tokens) {
    strip.sweep(block);
    status.detail(t("status.prefill.detail", { tokens: prompt_tokens, block, blocks: strip.blocks.length }));
  },
  onReplay({ replayed, tokens }) {
    status.show("status.replay", {}, t("status.replay.detail", { replayed: number(replayed), tokens: number(tokens) }));
  },
  onToken(blocks_us) {
    strip.token(blocks_us);
    heat.token(blocks_us);
  },
  onLive({ tokens_per_s, ttft_ms, used }) {
    status.show(
      "status.generating",
      {},
      t("status.generating.detail", {
        speed: tokens_per_s === null ? "–" : figure(tokens_per_s),
        ttft: number(ttft_ms),
        used: number(used),
        context: number(playground.context),
      }),
    );
  },
  onStop: () => status.show("status.stopping"),
  onEnd(summary) {
    byId("hero").hidden = true;
    remember("hero", "seen");
    const speed = summary.decode_tokens_per_s;
    status.show(speed ? "status.done" : "status.done.short", {
      tokens: () => plural("count.tokens", summary.tokens),
      reason: () => t(/** @type {Key} */ (`reason.${summary.reason}`)),
      speed: () => figure(speed ?? 0),
    });
    strip.settle();
    heat.finish();
    inside.runEnded();
  },
  onError(thrown) {
    strip.settle();
    heat.finish();
    const fault = faultOf(thrown);
    status.show("status.failed");
    showFault("card.run", fault, isGone(fault) ? reload : () => playground.run());
  },
  onFault: (title, thrown) => showFault(title, faultOf(thrown)),
  onSharedModel({ source, weights }) {
    const { choice } = loads;
    if (source === (choice ?? picker.chosen).source && weights === (choice ?? picker.chosen).weights) return;
    picker.offer(source, weights);
    playground.prompt.showNote("share.other_model", { model: source, weights });
  },
});

/** Whether the engine is unusable, so that a retry would fail too. @param {import("./errors.js").Fault} fault */
const isGone = (fault) => fault.fatal === true;

/** Loads the model in use again. */
function reload() {
  loadModel(loads.choice ?? picker.chosen);
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
  const onDismiss = () => {
    if (loads.model && status.shows("status.failed")) showReady();
  };
  showErrorCard(errors, title, fault, { remedies, facts, onDismiss });
  // Whatever has failed: files of this build may no longer exist.
  void explainOutdated(errors, title, fault, facts);
}

const loads = new ModelLoads({
  onStart() {
    model_panel.close();
    status.show("status.starting");
    cancel.hidden = false;
    write(cancel, "load.cancel");
  },
  onDrop({ name, weights }) {
    playground.setModel(null);
    profile.setModel(null);
    inside.setModel(null);
    panel.close(false);
    strip.clear();
    clearErrorCards(errors);
    showTitle(name, weights);
  },
  onTaken(loading, choice) {
    loading.timeBlocks(times_every);
    playground.setModel(loading, choice);
    setPaused(false);
    pause.hidden = false;
  },
  onTick: (progress, elapsed_ms) => status.showProgress(progress, elapsed_ms, playground.running !== null),
  onProgress(progress) {
    strip.onProgress(progress);
    playground.onProgress(progress);
  },
  onReady(model) {
    cancel.hidden = true;
    pause.hidden = true;
    strip.settle();
    if (!playground.running) showReady();
    showMachine();
    playground.setReady();
    profile.setModel(model);
    inside.setModel(model);
    void keepOffline(model.info.build);
    rememberModel();
  },
  onEnded({ thrown, is_taken, again: repeat }) {
    again = repeat;
    pause.hidden = true;
    const is_stopped = thrown === null;
    if (is_taken || !loads.model) {
      playground.setModel(null);
      status.show(is_stopped ? "status.cancelled" : "status.failed");
      if (is_stopped) return write(cancel, "load.again");
      strip.fail();
    } else if (!playground.running) {
      showReady();
    }
    cancel.hidden = true;
    if (!is_stopped) showFault("card.load", faultOf(thrown), repeat);
  },
  onDevice: (event) => onDevice(event),
  onStored: () => void kept.show(),
});
watchTimesWanted({ strip: byId("strip"), heat: byId("heat-card") }, (every) => {
  times_every = every;
  (loads.model ?? loads.pending)?.timeBlocks(every);
});
listenForDrops({
  onCheckpoint: (files, folder) => picker.chooseFiles(files, folder || undefined),
  async onRuns(files) {
    for (const file of files) await compare.open(file);
  },
  onState(file) {
    tabs.show("playground", true);
    void playground.transfer.openState(file);
  },
  onRefused: (thrown) => showFault("card.drop", faultOf(thrown)),
});

/** @param {Choice} choice @param {boolean} [refresh]  newer files of the source replace stored ones */
function loadModel(choice, refresh) {
  void loads.load(choice, picker.relaxedSimd, refresh);
}

/** Remembers the model in use for the next visit, if it is stored on this device. */
function rememberModel() {
  const { source = "", weights } = loads.choice ?? {};
  if (typeof source !== "string") return;
  remember("model", `${weights} ${parseAddress(source, document.baseURI).folder}`);
}

/** @param {boolean} on */
function setPaused(on) {
  paused = on;
  pause.textContent = t(on ? "load.resume" : "load.pause");
}

function showReady() {
  const weight_bytes = strip.cells.reduce((sum, { bytes }) => sum + bytes, 0);
  if (loads.model) status.showReady(loads.model.info, weight_bytes);
}

/** @param {string} name @param {string} weights */
function showTitle(name, weights) {
  document.title = t("title.of", { model: name === "rustdoc-5m" ? "Zamba2" : name });
  model_panel.showName(name, weights);
}

function showMachine() {
  showCapability(loads.model?.info ?? null, isolation, picker.relaxedSimd);
}

/**
 * Loss of the graphics device, and recovery from it.
 * @param {import("./engine/zamba2.d.ts").DeviceEvent} event
 */
function onDevice(event) {
  if (event.state === "lost") {
    strip.clear();
    status.show("status.device_lost", {}, faultText(event.fault));
    return;
  }
  strip.settle();
  if (playground.running) status.show("status.generating");
  else showReady();
  showMachine();
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
  const { name, weights } = loads.choice ?? picker.chosen;
  showTitle(name, weights);
  model_panel.draw();
  showMachine();
  showTheme();
  playground.showWords();
  if (playground.running) byId("run").textContent = t("stop");
  if (status.shows("status.ready")) showReady();
  strip.settle();
  heat.finish();
  panel.render();
  void profile.render();
  inside.render();
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
  if (paused) loads.pending?.pauseLoading();
  else loads.pending?.resumeLoading();
});
cancel.addEventListener("click", () => (loads.is_loading ? loads.stop() : again()));
for (const event of ["error", "unhandledrejection"]) {
  window.addEventListener(event, (/** @type {any} */ { error, reason, message }) => {
    showFault("card.page", faultOf(error ?? reason ?? message));
  });
}

// From here on this file reports failures itself, instead of the script in index.html.
const { dataset } = document.documentElement;
dataset.started = "yes";
if (dataset.stopped === "start-note") {
  // The script that had failed is not one of the page's.
  for (const id of ["start-note", "status-line"]) byId(id).hidden = id === "start-note";
  delete dataset.stopped;
}

const theme = remembered("theme");
if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
byId("hero").hidden = remembered("hero") === "seen";
letters.checked = remembered("letter-keys") !== "off";
renderWords();
const address = readHash(location.hash);
profile.useSettings(address.settings);
if (address.view) tabs.show(address.view, false);
window.addEventListener("hashchange", () => profile.useSettings(readHash(location.hash).settings));
// Before loading the model, which would be loaded twice if the page has to reload.
isolation = await isolate();
showMachine();
// In a sandboxed frame there is a note instead of a model.
if (isolation !== "reloading" && !dataset.stopped) void picker.begin();
if (new URLSearchParams(location.search).has("bench")) {
  new Bench(
    byId("bench"),
    () => loads.model,
    (thrown) => showFault("card.page", faultOf(thrown)),
  );
}
