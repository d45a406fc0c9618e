// @ts-check
// The page as a deployed site (`cargo xtask dist`): whether the site has been deployed again since, what it needs
// offline, and where its packed models are. During development none of it applies.

import { BUILD } from "./build.js";
import { PageError, showErrorCard } from "./errors.js";

/** @import { CardOptions, Fault } from "./errors.js" */
/** @import { Key } from "./words.js" */

/** Whether the server has another build by now, so that files of this one may be gone. */
async function isOutdated() {
  if (!BUILD) return false;
  try {
    const response = await fetch("build.json", { cache: "no-store" });
    return response.ok && (await response.json()).build !== BUILD;
  } catch {
    // Offline, or not JSON.
    return false;
  }
}

/**
 * Replaces the card of a failure, if the site has been deployed again, by one that says so.
 * @param {HTMLElement} place @param {Key} title @param {Fault} fault @param {CardOptions["facts"]} facts
 */
export async function explainOutdated(place, title, fault, facts) {
  if (!(await isOutdated())) return;
  const outdated = new PageError("outdated", "site.outdated", "site.outdated.next");
  const reload = { label: /** @type {Key} */ ("card.reload"), act: () => location.reload() };
  showErrorCard(place, title, outdated, { remedies: [reload], facts: { ...facts, first: fault.message } });
}

/**
 * Has the service worker keep the page and the build of the engine that runs here, so that the page starts offline.
 * Called once the model is ready: until then these requests would compete with the model's.
 * @param {string} engine_build
 */
export async function keepOffline(engine_build) {
  if (!BUILD || !navigator.serviceWorker) return;
  try {
    // On a host that sends the headers for isolation nothing has registered it yet.
    await navigator.serviceWorker.register("isolation.js");
  } catch {
    // The host or the user may refuse it; the page then needs the network.
    return;
  }
  const ask = async () => (await navigator.serviceWorker.ready).active?.postMessage({ keep: engine_build });
  // A newer site's service worker takes over as soon as it has kept the page.
  navigator.serviceWorker.addEventListener("controllerchange", ask, { once: true });
  await ask();
}

/**
 * The folder of the embedded model, relative to the page. A site has it packed, once for each format of weights.
 * @param {string} weights
 */
export const embeddedFolder = (weights) => (BUILD ? `models/rustdoc-5m/${weights}/` : "www/models/rustdoc-5m/");

/** Whether the embedded model is packed in this format. @param {string} weights */
export const isEmbeddedPacked = (weights) => BUILD !== undefined && weights !== "f32";
