// @ts-check
// Makes the page cross-origin isolated if the host does not send isolation headers: registers the service worker
// isolation.js, which adds them, and reloads the page once.

/** Set before the reload, so that the page does not reload forever if the service worker does not help. */
const TRIED = "isolation-tried";

/**
 * Isolated by the host's headers or by the service worker; about to reload; or not isolated, because service workers
 * are not available or because the service worker did not help.
 * @typedef {"host" | "service_worker" | "reloading" | "no_service_worker" | "failed"} Isolation
 */

/** @returns {Promise<Isolation>} */
export async function isolate() {
  if (crossOriginIsolated) {
    remember(false);
    return navigator.serviceWorker?.controller ? "service_worker" : "host";
  }
  // Available in secure contexts only.
  if (!("serviceWorker" in navigator)) return "no_service_worker";
  try {
    if (sessionStorage.getItem(TRIED)) return "failed";
    await active(await navigator.serviceWorker.register("isolation.js"));
  } catch {
    // The user may have disabled service workers or storage: then the page runs on one thread, without a reload.
    return "failed";
  }
  if (!remember(true)) return "failed";
  location.reload();
  return "reloading";
}

/** Returns false if storage is not available. @param {boolean} tried */
function remember(tried) {
  try {
    if (tried) sessionStorage.setItem(TRIED, "yes");
    else sessionStorage.removeItem(TRIED);
    return true;
  } catch {
    return false;
  }
}

/** Waits until the service worker handles requests. @param {ServiceWorkerRegistration} registration */
function active(registration) {
  const worker = registration.installing ?? registration.waiting;
  if (!worker) return;
  return new Promise((resolve, reject) => {
    worker.addEventListener("statechange", () => {
      if (worker.state === "activated") resolve(undefined);
      if (worker.state === "redundant") reject(new Error(worker.state));
    });
  });
}
