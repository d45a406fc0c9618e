// @ts-check
// Runs of a model, one after another. A model refuses a second run during a first one, and the callers of an adapter
// are independent of each other. All adapters of a model share its queue; runs that are started without an adapter are
// not in it.

/** @import { GenerateOptions, Model, Piece, Prompt, RunSummary } from "../zamba2.d.ts" */
/** @typedef {AsyncGenerator<Piece, RunSummary, void>} Run */

/**
 * Waiting turns, in order; an object without turns has no entry.
 * @type {WeakMap<object, Set<() => void>>}
 */
const queues = new WeakMap();

/**
 * Resolves when all earlier turns of `owner` have ended, with a function that ends this one. An abort while waiting
 * leaves the queue and rejects with the signal's reason.
 * @param {object} owner @param {AbortSignal} [signal] @returns {Promise<() => void>}
 */
export function turn(owner, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const end = () => {
      const waiting = queues.get(owner) ?? new Set();
      const [next] = waiting;
      if (!next) return queues.delete(owner);
      waiting.delete(next);
      next();
    };
    const waiting = queues.get(owner);
    if (!waiting) {
      queues.set(owner, new Set());
      return resolve(end);
    }
    const start = () => {
      signal?.removeEventListener("abort", leave);
      resolve(end);
    };
    const leave = () => {
      waiting.delete(start);
      reject(signal?.reason);
    };
    signal?.addEventListener("abort", leave, { once: true });
    waiting.add(start);
  });
}

/**
 * The pieces of a run that waits for its turn; returns its figures. Without a seed each run draws a random one, as the
 * protocols expect.
 * @param {Model} model @param {Prompt} prompt @param {GenerateOptions} options @param {AbortSignal} [signal]
 * @returns {Run}
 */
export async function* run(model, prompt, options, signal) {
  const end = await turn(model, signal);
  try {
    const seed = options.seed ?? crypto.getRandomValues(new Uint32Array(1))[0];
    yield* model.generate(prompt, { ...options, seed, signal });
    return /** @type {RunSummary} */ (model.last);
  } finally {
    end();
  }
}

/**
 * A model that has loaded. An abort ends the wait, not the load.
 * @param {Model | PromiseLike<Model>} given @param {AbortSignal} [signal] @returns {Promise<Model>}
 */
export async function loaded(given, signal) {
  const model = await withSignal(Promise.resolve(given), signal);
  await withSignal(model.ready, signal);
  return model;
}

/**
 * Rejects as soon as the signal aborts.
 * @template T
 * @param {Promise<T>} promise @param {AbortSignal} [signal] @returns {Promise<T>}
 */
export function withSignal(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

/**
 * The rest of a generator after its first item, which is awaited: errors before it belong to the request, and not to a
 * stream that has begun.
 * @template T, R
 * @param {AsyncGenerator<T, R, void>} items @returns {Promise<AsyncGenerator<T, R, void>>}
 */
export async function begun(items) {
  const first = await items.next();
  return (async function* () {
    if (first.done) return first.value;
    yield first.value;
    return yield* items;
  })();
}

/**
 * A stream of a generator's items. They are pulled as they are generated, independent of the stream's consumer: an
 * abandoned stream must not block later runs. Cancelling aborts `controller`.
 * @template T
 * @param {AsyncGenerator<T, unknown, void>} items @param {AbortController} controller @returns {ReadableStream<T>}
 */
export function streamOf(items, controller) {
  return new ReadableStream({
    start(stream) {
      void pump(items, stream);
    },
    cancel(reason) {
      controller.abort(reason);
    },
  });
}

/** @template T @param {AsyncGenerator<T, unknown, void>} items @param {ReadableStreamDefaultController<T>} stream */
async function pump(items, stream) {
  try {
    for await (const item of items) stream.enqueue(item);
    stream.close();
  } catch (error) {
    stream.error(error);
  }
}
