// @ts-check
// Two small reductions that several calls of the worker share. No model knowledge.

/** The first index of the largest value, as every greedy decoder breaks ties. @param {Float32Array} row */
export function argmax(row) {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i] > row[best]) best = i;
  return best;
}

/** Linear interpolation between the two nearest ranks; null without samples. @param {number[]} samples @param {number} p */
export function percentile(samples, p) {
  if (samples.length === 0) return null;
  const sorted = [...samples].sort((a, b) => a - b);
  const rank = p * (sorted.length - 1);
  const low = Math.floor(rank);
  const high = Math.ceil(rank);
  return sorted[low] + (sorted[high] - sorted[low]) * (rank - low);
}
