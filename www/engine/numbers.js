// @ts-check
// Small statistics and measurements that several calls of the worker share. They do not depend on the model.

/**
 * Linear interpolation between the two nearest ranks; null without samples.
 * @param {number[]} samples
 * @param {number} p
 */
export function percentile(samples, p) {
  if (samples.length === 0) return null;
  const sorted = [...samples].sort((a, b) => a - b);
  const rank = p * (sorted.length - 1);
  const low = Math.floor(rank);
  const high = Math.ceil(rank);
  return sorted[low] + (sorted[high] - sorted[low]) * (rank - low);
}

/** The resolution of this thread's clock, measured over a few steps. */
export function clockResolutionUs() {
  let smallest_ms = Infinity;
  for (let round = 0; round < 8; round++) {
    const from_ms = performance.now();
    let to_ms = from_ms;
    while (to_ms === from_ms) to_ms = performance.now();
    smallest_ms = Math.min(smallest_ms, to_ms - from_ms);
  }
  return Math.round(smallest_ms * 1e5) / 100;
}
