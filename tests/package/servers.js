// @ts-check
// Static servers for the tests: a folder with chosen headers, with ranges, and with what was requested.

import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".webmanifest": "application/manifest+json",
};

/** Names that change with the content. */
const HASHED = /-[0-9a-f]{10}\.\w+$/;

/** With these a page may share memory between threads. */
export const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};
/** As a CDN sends them. */
export const CORS = { "Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin" };

/**
 * @typedef {{ url: string, requests: { path: string, range: string | null, status: number, bytes: number }[],
 *   close: () => Promise<void> }} Server
 */

/**
 * @param {Record<string, string>} folders  by URL path; the longest that fits is used
 * @param {Record<string, string> | ((path: string) => Record<string, string>)} [headers]
 * @param {{ is_compressing?: boolean }} [options]  sends FILE.br in the place of FILE where there is one
 * @returns {Promise<Server>}
 */
export async function serve(folders, headers = {}, { is_compressing = false } = {}) {
  const prefixes = Object.keys(folders).sort((a, b) => b.length - a.length);
  /** @type {Server["requests"]} */
  const requests = [];
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname);
    const prefix = prefixes.find((prefix) => path.startsWith(prefix));
    let file = prefix === undefined ? "" : join(folders[prefix], normalize(path.slice(prefix.length)));
    if (file !== "" && existsSync(file) && statSync(file).isDirectory()) file = join(file, "index.html");
    const range = request.headers.range ?? null;
    const exists = file !== "" && existsSync(file);
    /** @param {number} status @param {Record<string, string | number>} [more] */
    const head = (status, more = {}) => {
      requests.push({ path, range, status, bytes: Number(more["Content-Length"] ?? 0) });
      const own = typeof headers === "function" ? headers(path) : headers;
      const caching = status === 200 && HASHED.test(path) ? "public, max-age=31536000, immutable" : "no-cache";
      response.writeHead(status, { "Cache-Control": caching, ...own, ...more });
    };
    if (!exists) {
      head(404, { "Content-Type": "text/plain" });
      return response.end("Not found");
    }
    const bytes = statSync(file).size;
    const type = TYPES[/** @type {keyof typeof TYPES} */ (extname(file))] ?? "application/octet-stream";
    const [, start, end] = /^bytes=(\d+)-(\d*)$/.exec(range ?? "") ?? [];
    if (start === undefined && is_compressing && existsSync(`${file}.br`)) {
      head(200, { "Content-Type": type, "Content-Length": statSync(`${file}.br`).size, "Content-Encoding": "br" });
      return createReadStream(`${file}.br`).pipe(response);
    }
    if (start === undefined) {
      head(200, { "Content-Type": type, "Content-Length": bytes });
      return createReadStream(file).pipe(response);
    }
    const last = Math.min(end ? Number(end) : bytes - 1, bytes - 1);
    head(206, {
      "Content-Type": type,
      "Content-Length": last + 1 - Number(start),
      "Content-Range": `bytes ${start}-${last}/${bytes}`,
    });
    return createReadStream(file, { start: Number(start), end: last }).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
