// @ts-check
// Retry with backoff: how long to wait after a failed request, for what, and when to give up. It sends no request.

import { Zamba2Error } from "./errors.js";

/**
 * @typedef {object} RetryPolicy
 * @property {number} attempts  failures in a row, without a byte between them, after which the read fails
 * @property {number} first_delay_ms  the wait after the first failure; each further one doubles it
 * @property {number} stall_ms  a request without a byte for this long is cancelled
 *
 * @typedef {object} Wait
 * @property {string} file
 * @property {number} at  the byte at which the read resumes
 * @property {"offline" | "stalled" | "dropped" | "status"} reason
 * @property {number | null} status  the HTTP status, if that is the reason
 * @property {number} attempt  failures in a row so far
 * @property {number} delay_ms  0 for "offline", which has no known end
 *
 * @typedef {(wait: Wait | null) => void} WaitListener  null: no read waits
 */

/** @type {RetryPolicy} */
export const RETRY_DEFAULTS = { attempts: 6, first_delay_ms: 500, stall_ms: 20_000 };

const MAX_DELAY_MS = 15_000;
/** Retry-After may be hours; then an error serves the user better than a wait. */
const MAX_RETRY_AFTER_MS = 120_000;
/** Some browsers send workers no "online" event, so the flag is polled as well. */
const ONLINE_POLL_MS = 1_000;

/** A failure that a retry may fix; `error` is thrown if none does. */
export class Interruption extends Error {
  /**
   * @param {Exclude<Wait["reason"], "offline">} reason @param {Zamba2Error} error
   * @param {{ status?: number | null, retry_after_ms?: number }} [more]
   */
  constructor(reason, error, { status = null, retry_after_ms = 0 } = {}) {
    super(error.message, { cause: error });
    this.reason = reason;
    this.error = error;
    this.status = status;
    this.retry_after_ms = retry_after_ms;
  }
}

/** The waits of one source; the listener gets null when the last of them ends. */
export class Waits {
  /** @param {RetryPolicy} policy @param {WaitListener} listener */
  constructor(policy, listener) {
    this.policy = policy;
    this.listener = listener;
    /** @type {Map<Retries, Wait>} */
    this.current = new Map();
  }

  /** @param {Retries} owner @param {Wait} wait */
  begin(owner, wait) {
    this.current.delete(owner);
    this.current.set(owner, wait);
    this.listener(wait);
  }

  /** @param {Retries} owner */
  end(owner) {
    if (this.current.delete(owner)) this.listener([...this.current.values()].at(-1) ?? null);
  }
}

/** The failures of one read in a row; a byte resets them. */
export class Retries {
  /** @param {Waits} waits @param {string} file @param {AbortSignal} signal */
  constructor(waits, file, signal) {
    this.waits = waits;
    this.file = file;
    this.signal = signal;
    this.failures = 0;
  }

  /** A reply came, which ends any wait. */
  answered() {
    this.waits.end(this);
  }

  /** Bytes arrived. */
  progressed() {
    this.failures = 0;
  }

  /**
   * Returns when it is time to retry, and throws if a retry is of no use.
   * @param {unknown} thrown @param {number} at
   */
  async pause(thrown, at) {
    try {
      this.signal.throwIfAborted();
      if (!(thrown instanceof Interruption)) throw thrown;
      const { reason, status, retry_after_ms, error } = thrown;
      const { attempts, first_delay_ms } = this.waits.policy;
      const wait = { file: this.file, at, status };
      // A status proves that there is a connection, whatever the flag says.
      if (reason !== "status" && navigator.onLine === false) {
        this.waits.begin(this, { ...wait, reason: "offline", attempt: this.failures, delay_ms: 0 });
        await online(this.signal);
        return;
      }
      this.failures += 1;
      if (this.failures >= attempts) {
        throw new Zamba2Error(error.code, { ...error.values, attempts: this.failures }, error);
      }
      const delay_ms = Math.max(backOff(first_delay_ms, this.failures), Math.min(retry_after_ms, MAX_RETRY_AFTER_MS));
      this.waits.begin(this, { ...wait, reason, attempt: this.failures, delay_ms });
      await slept(delay_ms, this.signal);
    } catch (error) {
      this.waits.end(this);
      throw error;
    }
  }
}

/**
 * Half of the delay is random (jitter), or all clients of a server that failed would return at once.
 * @param {number} first_delay_ms @param {number} failures
 */
function backOff(first_delay_ms, failures) {
  const full_ms = Math.min(MAX_DELAY_MS, first_delay_ms * 2 ** (failures - 1));
  return full_ms * (0.5 + 0.5 * Math.random());
}

/** @param {Response} response @returns {number} 0 if the header is missing, hidden from other origins, or unreadable */
export function retryAfterMs(response) {
  const value = response.headers.get("Retry-After") ?? "";
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isNaN(ms) ? 0 : Math.max(0, ms);
}

/** @param {number} delay_ms @param {AbortSignal} signal @returns {Promise<void>} */
function slept(delay_ms, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, delay_ms);
    signal.addEventListener("abort", stop, { once: true });
  });
}

/**
 * Until the browser is online, but no longer than the longest backoff: the flag can be wrong, and a server on this
 * machine answers anyway.
 * @param {AbortSignal} signal
 */
async function online(signal) {
  const woken = new AbortController();
  const wake = () => woken.abort(signal.reason);
  addEventListener("online", wake);
  signal.addEventListener("abort", wake);
  const until_ms = performance.now() + MAX_DELAY_MS;
  try {
    while (!navigator.onLine && performance.now() < until_ms) await slept(ONLINE_POLL_MS, woken.signal);
  } catch {
    signal.throwIfAborted();
  } finally {
    removeEventListener("online", wake);
    signal.removeEventListener("abort", wake);
  }
}
