// @ts-check
// Abort signals for browsers of 2023, which lack `AbortSignal.any`.

/**
 * Aborts when the first of `signals` does, with its reason. `AbortSignal.any` needs Chrome 116, Firefox 124 or
 * Safari 17.4.
 * @param {AbortSignal[]} signals @returns {AbortSignal}
 */
export function anySignal(signals) {
  if (typeof AbortSignal.any === "function") return AbortSignal.any(signals);
  const joined = new AbortController();
  for (const signal of signals) {
    if (signal.aborted) {
      joined.abort(signal.reason);
      break;
    }
    signal.addEventListener("abort", () => joined.abort(signal.reason), { once: true, signal: joined.signal });
  }
  return joined.signal;
}
