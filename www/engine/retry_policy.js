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
/** The Hub counts requests in windows of five minutes. An error serves the user better than a longer wait than this. */
const MAX_ASKED_MS = 15 * 60_000;
/** "Too many requests" without a waiting time: retried much later than a failure. */
const TOO_MANY = 429;
const TOO_MANY_FACTOR = 16;
const MAX_TOO_MANY_MS = 120_000;
/** Some browsers send no "online" event to workers, so the flag is polled as well. */
const ONLINE_POLL_MS = 1_000;

/** A failure that a retry may fix; `error` is thrown if none does. */
export class Interruption extends Error {
  /**
   * @param {Exclude<Wait["reason"], "offline">} reason @param {Zamba2Error} error
   * @param {{ status?: number | null, asked_ms?: number | null }} [more]  `asked_ms`: the wait that the server asks for
   */
  constructor(reason, error, { status = null, asked_ms = null } = {}) {
    super(error.message, { cause: error });
    this.reason = reason;
    this.error = error;
    this.status = status;
    this.asked_ms = asked_ms;
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

/** The consecutive failures of one read; a byte resets them. */
export class Retries {
  /** @param {Waits} waits @param {string} file @param {AbortSignal} signal */
  constructor(waits, file, signal) {
    this.waits = waits;
    this.file = file;
    this.signal = signal;
    this.failures = 0;
  }

  /** A reply has arrived, which ends any wait. */
  answered() {
    this.waits.end(this);
  }

  /** Bytes arrived. */
  progressed() {
    this.failures = 0;
  }

  /**
   * Returns when it is time to retry, and throws if a retry would not help.
   * @param {unknown} thrown @param {number} at
   */
  async pause(thrown, at) {
    try {
      this.signal.throwIfAborted();
      if (!(thrown instanceof Interruption)) throw thrown;
      const { reason, status, asked_ms, error } = thrown;
      const { attempts, first_delay_ms } = this.waits.policy;
      const wait = { file: this.file, at, status };
      // A status proves that there is a connection, whatever the flag says.
      if (reason !== "status" && navigator.onLine === false) {
        this.waits.begin(this, { ...wait, reason: "offline", attempt: this.failures, delay_ms: 0 });
        await online(this.signal);
        return;
      }
      this.failures += 1;
      if (asked_ms !== null && asked_ms > MAX_ASKED_MS) {
        const minutes = Math.ceil(asked_ms / 60_000);
        throw new Zamba2Error(error.code, { ...error.values, minutes }, { next: "long_pause", cause: error });
      }
      if (this.failures >= attempts) {
        const { next, cause } = error;
        throw new Zamba2Error(error.code, { ...error.values, attempts: this.failures }, { next, cause });
      }
      const delay_ms = Math.max(backOff(first_delay_ms, this.failures, status), asked_ms ?? 0);
      this.waits.begin(this, { ...wait, reason, attempt: this.failures, delay_ms });
      await slept(delay_ms, this.signal);
    } catch (error) {
      this.waits.end(this);
      throw error;
    }
  }
}

/**
 * Half of the delay is random (jitter), so that the clients of a failed server do not all return at once.
 * @param {number} first_delay_ms @param {number} failures @param {number | null} status
 */
function backOff(first_delay_ms, failures, status) {
  const [factor, max_ms] = status === TOO_MANY ? [TOO_MANY_FACTOR, MAX_TOO_MANY_MS] : [1, MAX_DELAY_MS];
  const full_ms = Math.min(max_ms, factor * first_delay_ms * 2 ** (failures - 1));
  return full_ms * (0.5 + 0.5 * Math.random());
}

/**
 * The wait that a server asks for: `Retry-After` in seconds or as a date, else the longest `t` of a `RateLimit` policy
 * with nothing remaining (`"api";r=0;t=140`), else `RateLimit-Reset`.
 * @param {Headers} headers @returns {number | null} null if none is readable; other origins may hide the headers
 */
export function askedWaitMs(headers) {
  const after = headers.get("Retry-After") ?? "";
  const after_ms = /^\d+$/.test(after) ? Number(after) * 1000 : Date.parse(after) - Date.now();
  if (!Number.isNaN(after_ms)) return Math.max(0, after_ms);
  const limits = (headers.get("RateLimit") ?? "").split(",");
  const resets = limits.flatMap((limit) => {
    const remaining = /(?:^|[;\s])(?:r|remaining)=(\d+)/.exec(limit)?.[1];
    const reset = /(?:^|[;\s])(?:t|reset)=(\d+)/.exec(limit)?.[1];
    return remaining === "0" && reset !== undefined ? [Number(reset)] : [];
  });
  // Older drafts of this header have a list of parts.
  const older = /remaining=0\b.*reset=(\d+)/.exec(headers.get("RateLimit") ?? "")?.[1];
  const separate = headers.get("RateLimit-Remaining") === "0" ? headers.get("RateLimit-Reset") : null;
  const seconds = [...resets, Number(older ?? NaN), Number(separate ?? NaN)].filter((value) => !Number.isNaN(value));
  return seconds.length > 0 ? Math.max(...seconds) * 1000 : null;
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
 * Waits until the browser is online, but at most as long as the longest backoff: the flag may be wrong, and a server on
 * this machine is reachable anyway.
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
