// @ts-check
// Makes the page cross-origin isolated where the host sends no isolation headers: it registers the service worker
// isolation.js, which adds them, and loads the page once more. What runs in an isolated page is not its business.

/** Set between the registration and the reload, so that a host where it does not help is not reloaded for ever. */
const TRIED = "isolation-tried";

/**
 * How the page came to be as it is: isolated by the host's headers or by the service worker; about to reload; or not
 * isolated, because service workers are not to be had here, or because one did not help.
 * @typedef {"host" | "service_worker" | "reloading" | "no_service_worker" | "failed"} Isolation
 */

/** @returns {Promise<Isolation>} */
export async function isolate() {
  if (crossOriginIsolated) {
    mark(false);
    return navigator.serviceWorker?.controller ? "service_worker" : "host";
  }
  // Browsers offer them on https and on this machine only.
  if (!("serviceWorker" in navigator)) return "no_service_worker";
  try {
    if (sessionStorage.getItem(TRIED)) return "failed";
    await active(await navigator.serviceWorker.register("isolation.js"));
  } catch {
    // The reader may have switched off service workers, or storage: then there is one thread and no reload.
    return "failed";
  }
  if (!mark(true)) return "failed";
  location.reload();
  return "reloading";
}

/** Tells whether it could. @param {boolean} tried */
function mark(tried) {
  try {
    if (tried) sessionStorage.setItem(TRIED, "yes");
    else sessionStorage.removeItem(TRIED);
    return true;
  } catch {
    return false;
  }
}

/** Waits until the worker answers requests. @param {ServiceWorkerRegistration} registration */
function active(registration) {
  const worker = registration.installing ?? registration.waiting;
  if (!worker) return;
  return new Promise((resolve, reject) => {
    worker.addEventListener("statechange", () => {
      if (worker.state === "activated") resolve(undefined);
      if (worker.state === "redundant") reject(new Error("the service worker was not installed"));
    });
  });
}
