// @ts-check
// The page as a deployed site (`cargo xtask dist`): whether the site has been deployed again since, which files it
// needs offline, and where its packed models are. None of this applies during development.

import { BUILD } from "./build_id.js";
import { PageError, showErrorCard } from "./errors.js";

/** @import { CardOptions, Fault } from "./errors.js" */
/** @import { Key } from "./words.js" */

/** Whether the server now has another build, so that files of this one may no longer exist. */
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
 * If the site has been deployed again, replaces the card of a failure by one that explains this.
 * @param {HTMLElement} place @param {Key} title @param {Fault} fault @param {CardOptions["facts"]} facts
 */
export async function explainOutdated(place, title, fault, facts) {
  if (!(await isOutdated())) return;
  const outdated = new PageError("outdated", "site.outdated", "site.outdated.next");
  const reload = { label: /** @type {Key} */ ("card.reload"), act: () => location.reload() };
  showErrorCard(place, title, outdated, { remedies: [reload], facts: { ...facts, first: fault.message } });
}

/**
 * Makes the service worker store the page and the build of the engine that runs here, so that the page starts offline.
 * Called once the model is ready: before, these requests would compete with the model's.
 * @param {string} engine_build
 */
export async function keepOffline(engine_build) {
  if (!BUILD || !navigator.serviceWorker) return;
  try {
    // If the host sends the headers for isolation, it is not registered yet.
    await navigator.serviceWorker.register("isolation.js");
  } catch {
    // The host or the user may not allow it; the page then needs the network.
    return;
  }
  const ask = async () => (await navigator.serviceWorker.ready).active?.postMessage({ keep: engine_build });
  // The service worker of a newer site takes over as soon as it has stored the page.
  navigator.serviceWorker.addEventListener("controllerchange", ask, { once: true });
  await ask();
}

/**
 * The folder of the embedded model, relative to the page. A deployed site has it packed, once per format of weights.
 * @param {string} weights
 */
export const embeddedFolder = (weights) => (BUILD ? `models/rustdoc-5m/${weights}/` : "www/models/rustdoc-5m/");

/** Whether the embedded model is packed in this format. @param {string} weights */
export const isEmbeddedPacked = (weights) => BUILD !== undefined && weights !== "f32";
