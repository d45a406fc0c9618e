// @ts-check
// A service worker that makes the page cross-origin isolated on hosts that can't send headers of their own choice;
// only isolated pages may share memory between threads. www/isolate.js registers it where it is needed, and nowhere
// else. It lies beside index.html because a service worker reaches nothing above its own folder, and the header that
// would let it (Service-Worker-Allowed) is one that these hosts can't send either.
//
// It adds headers to this origin's own documents, workers and scripts. Weights, other fetches and other origins pass
// it by, and it stores nothing: without a network there is no page.

const scope = /** @type {any} */ (globalThis);

const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};
/** An isolated page keeps no handle on windows that it opens; this one lives from that. */
const NOT_ISOLATED = "/www/perfetto.html";
/** What a page's isolation depends on; a fetch by a script has the destination "". */
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
  // Redirects are opaque here and go back to the browser as they are; so does every failure.
  if (!response.ok || response.type !== "basic") return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
