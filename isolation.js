// @ts-check
// A service worker that makes the page cross-origin isolated on hosts where custom headers cannot be set; only isolated
// pages may share memory between threads. www/isolate.js registers it if needed. It must be in the same folder as
// index.html: the scope of a service worker is its own folder and below, and widening it takes a header
// (Service-Worker-Allowed) that these hosts cannot send either.
//
// It adds headers to documents, workers and scripts of this origin. Weights, other fetches and other origins are not
// intercepted, and nothing is cached: the page does not work offline.

const scope = /** @type {any} */ (globalThis);

const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};
/** This page needs a handle to a window that it opens, which isolated pages do not get. */
const NOT_ISOLATED = "/www/perfetto.html";
/** Requests that isolation depends on; `fetch` from a script has the destination "". */
const DESTINATIONS = ["document", "worker", "sharedworker", "script"];

scope.addEventListener("install", () => scope.skipWaiting());
scope.addEventListener("activate", (/** @type {any} */ event) => event.waitUntil(scope.clients.claim()));
scope.addEventListener("fetch", (/** @type {any} */ event) => {
  /** @type {Request} */
  const request = event.request;
  const { origin, pathname } = new URL(request.url);
  if (origin !== location.origin || !DESTINATIONS.includes(request.destination) || pathname.endsWith(NOT_ISOLATED))
    return;
  event.respondWith(withHeaders(request));
});

/** @param {Request} request */
async function withHeaders(request) {
  const response = await fetch(request);
  // Redirects are opaque here. They and all failures are returned unchanged.
  if (!response.ok || response.type !== "basic") return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
