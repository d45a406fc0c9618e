// @ts-check
// SHA-256 as hexadecimal text. Browsers provide it in secure contexts only; on http pages it is computed here.

/** The fractional parts of the cube roots of the first 64 primes (FIPS 180-4, 4.2.2). */
const K = Int32Array.from(primes(64), (prime) => fraction(Math.cbrt(prime)));
/** As above, the square roots of the first eight primes (5.3.3). */
const START = Int32Array.from(primes(8), (prime) => fraction(Math.sqrt(prime)));

/** @param {Uint8Array<ArrayBuffer>} bytes */
export async function sha256(bytes) {
  const digest = globalThis.crypto?.subtle ? await crypto.subtle.digest("SHA-256", bytes) : digestOf(bytes);
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** FIPS 180-4, 6.2; exported for its test. @param {Uint8Array} bytes @returns {ArrayBuffer} */
export function digestOf(bytes) {
  const state = START.slice();
  const schedule = new Int32Array(64);
  const whole_bytes = bytes.byteLength - (bytes.byteLength % 64);
  const blocks = new DataView(bytes.buffer, bytes.byteOffset, whole_bytes);
  for (let at = 0; at < whole_bytes; at += 64) addBlock(state, schedule, blocks, at);

  const left = bytes.subarray(whole_bytes);
  const tail = new DataView(new ArrayBuffer(left.byteLength < 56 ? 64 : 128));
  new Uint8Array(tail.buffer).set(left);
  tail.setUint8(left.byteLength, 0x80);
  tail.setBigUint64(tail.byteLength - 8, BigInt(bytes.byteLength) * 8n);
  for (let at = 0; at < tail.byteLength; at += 64) addBlock(state, schedule, tail, at);

  const digest = new DataView(new ArrayBuffer(32));
  state.forEach((word, i) => digest.setInt32(4 * i, word));
  return digest.buffer;
}

/** @param {Int32Array} state @param {Int32Array} w @param {DataView} data @param {number} at */
function addBlock(state, w, data, at) {
  for (let t = 0; t < 16; t++) w[t] = data.getInt32(at + 4 * t);
  for (let t = 16; t < 64; t++) {
    const x = w[t - 15];
    const y = w[t - 2];
    const s0 = rotated(x, 7) ^ rotated(x, 18) ^ (x >>> 3);
    const s1 = rotated(y, 17) ^ rotated(y, 19) ^ (y >>> 10);
    w[t] = w[t - 16] + s0 + w[t - 7] + s1;
  }
  let a = state[0];
  let b = state[1];
  let c = state[2];
  let d = state[3];
  let e = state[4];
  let f = state[5];
  let g = state[6];
  let h = state[7];
  for (let t = 0; t < 64; t++) {
    const s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[t] + w[t]) | 0;
    const s0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + t1) | 0;
    d = c;
    c = b;
    b = a;
    a = (t1 + t2) | 0;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
  state[4] += e;
  state[5] += f;
  state[6] += g;
  state[7] += h;
}

/** @param {number} word @param {number} n */
const rotated = (word, n) => (word >>> n) | (word << (32 - n));

/** The first 32 bits after the binary point; a double is precise enough for these roots. @param {number} value */
function fraction(value) {
  return Math.floor((value - Math.floor(value)) * 2 ** 32) | 0;
}

/** @param {number} n */
function primes(n) {
  /** @type {number[]} */
  const found = [];
  for (let candidate = 2; found.length < n; candidate++) {
    if (found.every((prime) => candidate % prime !== 0)) found.push(candidate);
  }
  return found;
}
