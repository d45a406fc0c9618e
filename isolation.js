// @ts-check
// The page's service worker. It makes the page cross-origin isolated on hosts where custom headers cannot be set; only
// isolated pages may share memory between threads. On a deployed site it also keeps the page's files, so that the page
// starts offline. www/isolate.js registers it if needed. It must be in the same folder as index.html: the scope of a
// service worker is its own folder and below, and widening it takes a header (Service-Worker-Allowed) that these hosts
// cannot send either.
//
// It adds headers to documents, workers and scripts of this origin. Weights, other fetches and other origins are not
// intercepted, and weights are not kept: the engine stores them itself.

const scope = /** @type {any} */ (globalThis);

/**
 * What to keep: the page's files, and for each build of the engine those that only it needs. `cargo xtask dist` fills
 * it in; during development nothing is kept. Names of files contain hashes of the contents, but for the page itself
 * ("./").
 * @type {{ build: string, files: string[], engine_files: Record<string, string[]> }}
 */
const SITE = { build: "", files: [], engine_files: {} };

const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};
/** This page needs a handle to a window that it opens, which isolated pages do not get. */
const NOT_ISOLATED = "/www/perfetto.html";
/** Requests that isolation depends on; `fetch` from a script has the destination "". */
const DESTINATIONS = ["document", "worker", "sharedworker", "script"];

const PAGE = new URL("./", location.href).href;
/** Other sites of the same origin may be this page, too. */
const CACHES = `zamba2 ${PAGE} `;
const CACHE = CACHES + SITE.build;
const hashed = new Set(
  [...SITE.files, ...Object.values(SITE.engine_files).flat()].map((file) => new URL(file, PAGE).href),
);
hashed.delete(PAGE);

/** Files that are on their way to the page, and are kept when they have arrived. @type {Map<string, Promise<void>>} */
const arriving = new Map();

/** The end of the last `keep`: two at once would fetch the same files. @type {Promise<void>} */
let kept_all = Promise.resolve();

/**
 * Fetches what is not kept yet. Without storage, as in some private windows, the page still gets its headers.
 * @param {string[]} files
 */
function keep(files) {
  kept_all = kept_all.then(() => keepAbsent(files)).catch(() => {});
  return kept_all;
}

/** @param {string[]} files */
async function keepAbsent(files) {
  if (files.length === 0) return;
  const cache = await caches.open(CACHE);
  const absent = [];
  // The page's name has no hash, so the browser's own cache may have an older one.
  for (const file of files) {
    await arriving.get(new URL(file, PAGE).href);
    if (!(await cache.match(file))) absent.push(new Request(file, { cache: file === "./" ? "reload" : "default" }));
  }
  await cache.addAll(absent);
}

async function forgetOtherBuilds() {
  const names = await caches.keys();
  const others = names.filter((name) => name.startsWith(CACHES) && name !== CACHE);
  await Promise.all(others.map((name) => caches.delete(name)));
}

scope.addEventListener("install", (/** @type {any} */ event) => {
  scope.skipWaiting();
  // The files of the version before are deleted when this one is activated, so its own must be here. At a first visit
  // the page waits for this service worker, and what it fetches afterwards is kept on its way.
  if (scope.registration.active) event.waitUntil(keep(SITE.files));
});
scope.addEventListener("activate", (/** @type {any} */ event) =>
  event.waitUntil(
    forgetOtherBuilds()
      .catch(() => {})
      .then(() => scope.clients.claim()),
  ),
);
scope.addEventListener("message", (/** @type {any} */ event) => {
  event.waitUntil(keep([...SITE.files, ...(SITE.engine_files[event.data.keep] ?? [])]));
});
scope.addEventListener("fetch", (/** @type {any} */ event) => {
  /** @type {Request} */
  const request = event.request;
  const { origin, pathname } = new URL(request.url);
  if (origin !== location.origin || request.method !== "GET" || pathname.endsWith(NOT_ISOLATED)) return;
  const is_isolating = DESTINATIONS.includes(request.destination);
  if (!is_isolating && !hashed.has(request.url)) return;
  const response = found(request);
  event.respondWith(answer(response, is_isolating));
  // A service worker that is stopped for being idle would keep half a file, which is none.
  event.waitUntil(response.then(() => arriving.get(request.url)).catch(() => {}));
});

/** @param {Promise<Response>} reply @param {boolean} is_isolating */
async function answer(reply, is_isolating) {
  const response = await reply;
  // Redirects are opaque here. They and all failures are returned unchanged.
  if (!is_isolating || !response.ok || response.type !== "basic") return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}

/** A kept file, where it cannot have changed; otherwise the network's answer, and the kept page only without one. */
async function found(/** @type {Request} */ request) {
  if (hashed.has(request.url)) return siteFile(request);
  try {
    return await fetch(request);
  } catch (error) {
    const page = request.mode === "navigate" && SITE.build ? await kept(PAGE) : undefined;
    if (page) return page;
    throw error;
  }
}

/** A file of the site: the kept one, or the network's, of which a copy is kept. @param {Request} request */
async function siteFile(request) {
  const { url } = request;
  // Threads need the same scripts as the engine's worker, which may still be arriving.
  await arriving.get(url);
  const here = await kept(url);
  if (here) return here;
  const response = await fetch(request);
  if (response.status === 200 && response.type === "basic") {
    const copy = response.clone();
    const keeping = caches
      .open(CACHE)
      .then((cache) => cache.put(url, copy))
      .catch(() => {})
      .finally(() => arriving.delete(url));
    arriving.set(url, keeping);
  }
  return response;
}

/** @param {string} address @returns {Promise<Response | undefined>} */
async function kept(address) {
  if (!SITE.build) return undefined;
  try {
    return await (await caches.open(CACHE)).match(address);
  } catch {
    return undefined;
  }
}
