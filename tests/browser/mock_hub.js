// @ts-check
// A mock of the Hugging Face Hub: a "hub" that redirects to signed URLs of a "cdn" on another origin, with commits and
// injected faults. Of the Hub's API it has the one call that returns the commit of a revision.

import { createHash } from "node:crypto";
import { createServer } from "node:http";

/** @import { IncomingMessage, Server, ServerResponse } from "node:http" */
/** @import { AddressInfo, Socket } from "node:net" */

/**
 * A fault injected into a request for `file` (`API` for the call of the API). Positions are byte offsets in
 * the file; a fault with a position waits for a request that covers it.
 * @typedef {object} Fault
 * @property {string} file
 * @property {number} [times]  how many requests are affected; default 1
 * @property {number} [after]  how many requests for the file are answered first
 * @property {number} [drop_at]  the connection drops before this byte
 * @property {number} [stall_at]  nothing is sent from this byte on, and the connection stays open
 * @property {number} [status]  this status instead of the file
 * @property {"hub" | "cdn"} [from]  which server sends the status; default "cdn"
 * @property {Record<string, string>} [headers]  added to the response
 * @property {number} [short_by]  the body ends without an error this many bytes too early
 * @property {number} [long_by]  this many surplus bytes
 * @property {boolean} [chunked]  without Content-Length
 * @property {{ at: number, bytes: Uint8Array }} [patch]  bytes replaced at an offset, as by a faulty disk or proxy
 * @property {boolean} [whole]  200 with the whole file, as from a server without range support
 */

/**
 * `revision` is what a request to the hub asked for.
 * @typedef {{ server: "hub" | "cdn", method: string, file: string, range: string | null, status: number,
 *   revision: string | null }} Contact
 */

/** The name of the API's call in faults and contacts. */
export const API = "api";

const CORS = { "Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin" };

/** Headers that the real cdn exposes to other origins. */
const EXPOSED = "Content-Range, ETag, Accept-Ranges, Retry-After, RateLimit";

/** @param {Uint8Array} bytes */
export const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

export class MockHub {
  /** @param {Record<string, Buffer>} files */
  constructor(files) {
    /** The newest commit, to which every branch and tag points. */
    this.head = commitNumber(0);
    /** The files of each commit. @type {Map<string, Map<string, Buffer>>} */
    this.commits = new Map([[this.head, new Map(Object.entries(files))]]);
    /** Whether the API is there; mirrors of the Hub may lack it. */
    this.has_api = true;
    /**
     * Files that are not there are answered by a start page, as hosts of single-page applications do: whole, or in the
     * range that was asked for; as a page or without saying so.
     * @type {null | { ranges: boolean, type: string }}
     */
    this.start_page = null;
    /** @type {Fault[]} */
    this.faults = [];
    /** Every request, in the order of the responses. @type {Contact[]} */
    this.contacts = [];
    /** Bytes of bodies sent. @type {Map<string, number>} */
    this.sent_bytes = new Map();
    /** Response headers exposed to other origins. */
    this.exposed = EXPOSED;
    /** Lets browsers cache the redirect, including a signature that may expire. */
    this.redirect_max_age_s = 0;
    /** Signatures contain the epoch in which they were made; older ones have expired. */
    this.epoch = 1;
    /** @type {Set<Socket>} */
    this.sockets = new Set();
    /** @type {ServerResponse[]} */
    this.stalled = [];
    this.hub = this.server((request, response) => this.redirect(request, response));
    this.cdn = this.server((request, response) => this.deliver(request, response));
  }

  /** @param {Record<string, Buffer>} files */
  static async start(files) {
    const mock = new MockHub(files);
    for (const server of [mock.hub, mock.cdn]) {
      await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
    }
    return mock;
  }

  async stop() {
    // Stalled responses never end by themselves.
    for (const socket of this.sockets) socket.destroy();
    for (const server of [this.hub, this.cdn]) await new Promise((resolve) => server.close(resolve));
  }

  /** The folder to load from. */
  get folder() {
    return `${origin(this.hub)}/owner/name/resolve/main/`;
  }

  get origins() {
    return [origin(this.hub), origin(this.cdn)];
  }

  /** Drops the connections of responses that have stalled. */
  dropStalled() {
    for (const response of this.stalled.splice(0)) response.destroy();
  }

  expireSignatures() {
    this.epoch += 1;
  }

  /** Replaces a file in place, as on a host without commits. @param {string} file @param {Buffer} bytes */
  replace(file, bytes) {
    this.commits.get(this.head)?.set(file, bytes);
  }

  /** A new commit with other versions of some files. @param {Record<string, Buffer>} files */
  push(files) {
    const before = this.commits.get(this.head) ?? [];
    this.head = commitNumber(this.commits.size);
    this.commits.set(this.head, new Map([...before, ...Object.entries(files)]));
    return this.head;
  }

  /** @param {string} revision  a commit, or the name of a branch @param {string} file */
  file(revision, file) {
    return (this.commits.get(revision) ?? this.commits.get(this.head))?.get(file);
  }

  /** @param {"hub" | "cdn"} server @param {string} file */
  contactsOf(server, file) {
    return this.contacts.filter((contact) => contact.server === server && contact.file === file);
  }

  /** @param {(request: IncomingMessage, response: ServerResponse) => void} answer */
  server(answer) {
    return createServer(answer).on("connection", (socket) => {
      this.sockets.add(socket);
      socket.on("close", () => this.sockets.delete(socket));
    });
  }

  /** @param {IncomingMessage} request @param {ServerResponse} response */
  redirect(request, response) {
    const { pathname } = new URL(request.url ?? "/", origin(this.hub));
    const [, api_revision] = /^\/api\/models\/[^/]+\/[^/]+\/revision\/([^/]+)$/.exec(pathname) ?? [];
    if (api_revision && this.has_api) return this.answerApi(api_revision, request, response);
    const [, revision, file] = /^\/[^/]+\/[^/]+\/resolve\/([^/]+)\/(.+)$/.exec(pathname) ?? [];
    if (!this.reads("hub", file ?? pathname, request, response)) return;
    if (!file || !this.file(revision, file)) {
      if (this.start_page) return this.sendStartPage(this.start_page, file ?? pathname, request, response);
      return this.refuse("hub", file ?? pathname, request, response, 404, {});
    }
    const fault = this.faultFor("hub", file, request);
    if (fault) return this.refuse("hub", file, request, response, fault.status ?? 500, fault.headers ?? {});
    this.note("hub", file, request, 302, revision);
    const expires = Math.floor(Date.now() / 1000) + 3600;
    response.writeHead(302, {
      ...CORS,
      Location: `${origin(this.cdn)}/${file}?sig=${this.epoch}&expires=${expires}&revision=${revision}`,
      ...(this.redirect_max_age_s > 0 ? { "Cache-Control": `max-age=${this.redirect_max_age_s}` } : {}),
    });
    response.end();
  }

  /** @param {string} revision @param {IncomingMessage} request @param {ServerResponse} response */
  answerApi(revision, request, response) {
    const fault = this.faultFor("hub", API, request);
    if (fault) return this.refuse("hub", API, request, response, fault.status ?? 500, fault.headers ?? {});
    this.note("hub", API, request, 200, revision);
    const sha = this.commits.has(revision) ? revision : this.head;
    response.writeHead(200, { ...CORS, "Content-Type": "application/json" });
    response.end(JSON.stringify({ id: "owner/name", sha }));
  }

  /**
   * @param {{ ranges: boolean, type: string }} kind @param {string} file
   * @param {IncomingMessage} request @param {ServerResponse} response
   */
  sendStartPage({ ranges, type }, file, request, response) {
    const page = Buffer.from(
      `\n<!DOCTYPE html>\n<html lang="en"><title>Start</title>${"<p>Text</p>".repeat(100)}</html>\n`,
    );
    const range = ranges ? rangeOf(request) : null;
    const [start, end] = range ? [range[0], Math.min(range[1], page.length)] : [0, page.length];
    this.note("hub", file, request, range ? 206 : 200);
    response.writeHead(range ? 206 : 200, {
      ...CORS,
      "Access-Control-Expose-Headers": this.exposed,
      "Content-Type": type,
      "Content-Length": end - start,
      ...(range ? { "Content-Range": `bytes ${start}-${end - 1}/${page.length}` } : {}),
    });
    response.end(page.subarray(start, end));
  }

  /** @param {IncomingMessage} request @param {ServerResponse} response */
  deliver(request, response) {
    const { pathname, searchParams } = new URL(request.url ?? "/", origin(this.cdn));
    const file = pathname.slice(1);
    if (!this.reads("cdn", file, request, response)) return;
    if (searchParams.get("sig") !== String(this.epoch)) return this.refuse("cdn", file, request, response, 403, {});
    const bytes = this.file(searchParams.get("revision") ?? "", file);
    if (!bytes) return this.refuse("cdn", file, request, response, 404, {});

    /** @type {Fault} */
    const fault = this.faultFor("cdn", file, request) ?? { file };
    if (fault.status) return this.refuse("cdn", file, request, response, fault.status, fault.headers ?? {});
    const range = fault.whole ? null : rangeOf(request);
    const [start, asked_end] = range ?? [0, bytes.length];
    const end = Math.min(asked_end, bytes.length);
    if (start >= end) {
      return this.refuse("cdn", file, request, response, 416, { "Content-Range": `bytes */${bytes.length}` });
    }

    let body = Buffer.from(bytes.subarray(start, end - (fault.short_by ?? 0)));
    if (fault.long_by) body = Buffer.concat([body, Buffer.alloc(fault.long_by, 1)]);
    if (fault.patch) {
      const patch_at = fault.patch.at - start;
      body.set(fault.patch.bytes.subarray(0, body.length - patch_at), patch_at);
    }
    const broken_at = fault.drop_at ?? fault.stall_at;
    this.note("cdn", file, request, range ? 206 : 200);
    response.writeHead(range ? 206 : 200, {
      ...CORS,
      "Access-Control-Expose-Headers": this.exposed,
      "Accept-Ranges": "bytes",
      "Cache-Control": "max-age=31536000",
      ETag: `"${sha256(bytes).slice(0, 16)}"`,
      ...(range ? { "Content-Range": `bytes ${start}-${end - 1}/${bytes.length}` } : {}),
      ...(fault.chunked ? {} : { "Content-Length": body.length }),
      ...fault.headers,
    });
    if (broken_at === undefined) {
      this.count(file, body.length);
      response.end(body);
      return;
    }
    this.count(file, broken_at - start);
    response.flushHeaders();
    if (fault.stall_at !== undefined) this.stalled.push(response);
    const sent = () => {
      if (fault.drop_at !== undefined) response.destroy();
    };
    if (broken_at > start) response.write(body.subarray(0, broken_at - start), sent);
    else sent();
  }

  /**
   * Whether the request is a read. Anything else, in particular a preflight, is answered in a way that makes browsers
   * fail.
   * @param {"hub" | "cdn"} server
   * @param {string} file
   * @param {IncomingMessage} request
   * @param {ServerResponse} response
   */
  reads(server, file, request, response) {
    if (request.method === "GET") return true;
    this.note(server, file, request, 405);
    response.writeHead(405).end();
    return false;
  }

  /**
   * @param {"hub" | "cdn"} server
   * @param {string} file
   * @param {IncomingMessage} request
   * @param {ServerResponse} response
   * @param {number} status @param {Record<string, string>} headers
   */
  refuse(server, file, request, response, status, headers) {
    this.note(server, file, request, status);
    response.writeHead(status, {
      ...CORS,
      "Access-Control-Expose-Headers": this.exposed,
      "Content-Length": 0,
      ...headers,
    });
    response.end();
  }

  /**
   * @param {"hub" | "cdn"} server @param {string} file @param {IncomingMessage} request @param {number} status
   * @param {string | null} [revision]
   */
  note(server, file, { method = "", headers }, status, revision = null) {
    this.contacts.push({ server, method, file, range: headers.range ?? null, status, revision });
  }

  /** @param {string} file @param {number} bytes */
  count(file, bytes) {
    this.sent_bytes.set(file, (this.sent_bytes.get(file) ?? 0) + bytes);
  }

  /**
   * The fault that applies to this request, if any; it is used up.
   * @param {"hub" | "cdn"} server @param {string} file @param {IncomingMessage} request
   */
  faultFor(server, file, request) {
    const [start, end] = rangeOf(request) ?? [0, Infinity];
    const fault = this.faults.find(({ file: spoiled, times = 1, from = "cdn", ...fault }) => {
      const at = fault.drop_at ?? fault.stall_at ?? fault.patch?.at ?? start;
      return spoiled === file && times > 0 && from === server && start <= at && at < end;
    });
    if (!fault) return null;
    if (fault.after) {
      fault.after -= 1;
      return null;
    }
    fault.times = (fault.times ?? 1) - 1;
    return fault;
  }
}

/** @param {number} n */
const commitNumber = (n) => createHash("sha1").update(`commit ${n}`).digest("hex");

/** @param {Server} server */
const origin = (server) => `http://127.0.0.1:${/** @type {AddressInfo} */ (server.address()).port}`;

/** The half-open range that a request asks for. @param {IncomingMessage} request @returns {[number, number] | null} */
function rangeOf(request) {
  const [, start, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
  return start === undefined ? null : [Number(start), last === "" ? Infinity : Number(last) + 1];
}
