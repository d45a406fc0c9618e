// @ts-check
// One HTTP request and its reply, cancelled when nothing arrives for a while. It neither retries nor interprets
// statuses.

import { fact, Zamba2Error } from "./errors.js";
import { policyFault } from "./policy.js";
import { Interruption } from "./retry_policy.js";

/** @import { Retries } from "./retry_policy.js" */

export class HttpExchange {
  /** @param {string} file @param {URL} url @param {number} at the first byte asked for @param {Retries} retries */
  constructor(file, url, at, retries) {
    this.file = file;
    this.url = url;
    this.at = at;
    this.retries = retries;
    this.stalled = false;
    this.controller = new AbortController();
    this.stop = () => this.controller.abort(retries.signal.reason);
    retries.signal.addEventListener("abort", this.stop);
  }

  /** @param {RequestInit} init */
  reply(init) {
    this.retries.signal.throwIfAborted();
    // The HTTP cache keeps redirects whose signature has expired. Chromium's also serves parts of a range itself, with
    // the old ETag of a file that changed (seen with tests/browser/hub.test.js), and serialises ranges of one file.
    return this.watched(() => fetch(this.url, { ...init, cache: "no-store", signal: this.controller.signal }));
  }

  /** @param {Response} response */
  async *body(response) {
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
    try {
      for (;;) {
        const { done, value } = await this.watched(() => reader.read());
        if (done) return;
        this.at += value.byteLength;
        yield value;
      }
    } finally {
      // If the consumer stops early, the transfer must stop too.
      this.close();
    }
  }

  /**
   * The timer runs only while a chunk is awaited: the time that a consumer needs for a chunk does not count as a stall.
   * @template T @param {() => Promise<T>} step @returns {Promise<T>}
   */
  async watched(step) {
    const {
      signal,
      waits: {
        policy: { stall_ms },
      },
    } = this.retries;
    const timer = setTimeout(() => {
      this.stalled = true;
      this.controller.abort();
    }, stall_ms);
    try {
      return await step();
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      const detail = this.stalled ? fact("stalled", { seconds: stall_ms / 1000 }) : fact("connection_failed");
      const { file, at, url } = this;
      const policy = this.stalled ? null : await policyFault(file, url.href);
      if (policy) throw policy;
      const error = new Zamba2Error("network", { file, origin: url.origin, detail, at }, { cause });
      throw new Interruption(this.stalled ? "stalled" : "dropped", error);
    } finally {
      clearTimeout(timer);
    }
  }

  close() {
    this.retries.signal.removeEventListener("abort", this.stop);
    this.controller.abort();
  }
}
