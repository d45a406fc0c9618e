// @ts-check
// What pasted addresses mean, and other small rules about sources that need no browser.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { atRevision, hubFolder, hubPlaceOf, parseAddress } from "../../www/engine/addresses.js";
import { askedWaitMs } from "../../www/engine/retry_policy.js";
import { digestOf, sha256 } from "../../www/engine/sha256.js";
import { anySignal } from "../../www/engine/signals.js";
import { isWebPage, isWebPageForWeights } from "../../www/engine/source_parts.js";
import { test } from "./harness.js";

const BASE = "https://site.example/sub/index.html";

/** What is pasted, the folder that it means, and the repository at its revision. @type {[string, string, string?][]} */
const ADDRESSES = [
  ["https://huggingface.co/Zyphra/Zamba2-2.7B-instruct", "main/", "Zyphra/Zamba2-2.7B-instruct main"],
  ["https://huggingface.co/Zyphra/Zamba2-2.7B-instruct/tree/main", "main/", "Zyphra/Zamba2-2.7B-instruct main"],
  ["https://huggingface.co/a/b/blob/main/README.md?code=true", "main/", "a/b main"],
  ["https://huggingface.co/a/b/resolve/refs%2Fpr%2F1/model.safetensors.index.json", "refs%2Fpr%2F1/", "a/b refs/pr/1"],
  ["https://huggingface.co/a/b/tree/refs/pr/12/sub", "refs%2Fpr%2F12/sub/", "a/b refs/pr/12"],
  ["https://huggingface.co/a/b/commits/main", "main/", "a/b main"],
  [
    "https://huggingface.co/a/b/commit/0123456789abcdef0123456789abcdef01234567#d2h-1",
    "0123456789abcdef0123456789abcdef01234567/",
    "a/b 0123456789abcdef0123456789abcdef01234567",
  ],
  ["https://huggingface.co/a/b/resolve/v2/sub/model-00001-of-00002.safetensors?download=true", "v2/sub/", "a/b v2"],
  ["https://huggingface.co/a/b/tree/main/sub%20folder", "main/sub%20folder/", "a/b main"],
  ["https://huggingface.co/a/b/discussions/3", "main/", "a/b main"],
  ["https://huggingface.co/a/b.git", "main/", "a/b main"],
  ["https://huggingface.co/api/models/a/b/revision/v2", "v2/", "a/b v2"],
  ["http://www.huggingface.co/a/b/", "main/", "a/b main"],
  ["huggingface.co/a/b/tree/main", "main/", "a/b main"],
  ["hf.co/a/b/blob/main/config.json", "main/", "a/b main"],
  ["git@hf.co:a/b", "main/", "a/b main"],
  ["hf://a/b", "main/", "a/b main"],
  ["hf://a/b@v2", "v2/", "a/b v2"],
  ["hf://models/a/b@refs/pr/1/config.json", "refs%2Fpr%2F1/", "a/b refs/pr/1"],
  ["hf://a/b/sub", "main/sub/", "a/b main"],
  ["a/b", "main/", "a/b main"],
  ["a/b@refs/pr/1", "refs%2Fpr%2F1/", "a/b refs/pr/1"],
  ["a/b@feature/x", "feature%2Fx/", "a/b feature/x"],
  ['  "a/b@v2" ', "v2/", "a/b v2"],
  ["/checkpoint/tokenizer.json", "https://site.example/checkpoint/"],
  ["/checkpoint", "https://site.example/checkpoint/"],
  ["./a/b", "https://site.example/sub/a/b/"],
  ["https://host.example/zamba/model.safetensors?token=1", "https://host.example/zamba/?token=1"],
  ["https://host.example", "https://host.example/"],
  ["https://mirror.example/a/b/resolve/main/config.json", "https://mirror.example/a/b/resolve/main/", "a/b main"],
];

test("a pasted address means the repository at its revision, or the folder of the file", () => {
  for (const [text, folder, place] of ADDRESSES) {
    const address = parseAddress(text, BASE, { names: true });
    const repo = place?.split(" ")[0];
    const expected = folder.startsWith("https:") ? folder : `https://huggingface.co/${repo}/resolve/${folder}`;
    assert.equal(address.folder, expected, text);
    assert.equal(address.hub ? `${address.hub.repo} ${address.hub.revision}` : undefined, place, text);
    // What is stored is found again by the address of its folder.
    assert.equal(parseAddress(address.folder, BASE).folder, address.folder, text);
  }
});

test("without names, owner/name is a relative address", () => {
  assert.equal(parseAddress("a/b", BASE).folder, "https://site.example/sub/a/b/");
  assert.equal(parseAddress("hf://a/b", BASE).folder, hubFolder("a/b"));
});

test("an address on the Hub that is no model is refused by what it is", () => {
  for (const [text, id] of [
    ["https://huggingface.co/", "hub_no_repository"],
    ["huggingface.co", "hub_no_repository"],
    ["https://huggingface.co/docs/transformers", "hub_no_repository"],
    ["https://huggingface.co/models?search=zamba", "hub_no_repository"],
    ["https://huggingface.co/Zyphra", "hub_owner"],
    ["hf://Zyphra", "hub_owner"],
    ["https://huggingface.co/datasets/a/b", "hub_dataset"],
    ["hf://datasets/a/b", "hub_dataset"],
    ["https://hf.co/spaces/a/b", "hub_space"],
    ["https://huggingface.co/../b/c", "hub_no_repository"],
    ["https://", "not_an_address"],
  ]) {
    assert.throws(
      () => parseAddress(text, BASE, { names: true }),
      (/** @type {any} */ error) => error.code === "bad_option" && error.values.fact.id === id && error.next !== null,
      text,
    );
  }
});

test("the folder of a repository at another revision keeps its path and query", () => {
  assert.equal(
    atRevision("https://mirror.example/a/b/resolve/refs%2Fpr%2F1/sub/?token=1", "abc"),
    "https://mirror.example/a/b/resolve/abc/sub/?token=1",
  );
  assert.deepEqual(hubPlaceOf("https://mirror.example/a/b/resolve/v%2F2/sub/?token=1"), {
    origin: "https://mirror.example",
    repo: "a/b",
    revision: "v/2",
    path: "sub/",
  });
  assert.equal(hubPlaceOf("https://site.example/www/models/rustdoc-5m/"), null);
});

test("the wait that a server asks for is read from every form of its headers", () => {
  /** @param {Record<string, string>} headers */
  const asked = (headers) => askedWaitMs(new Headers(headers));
  assert.equal(asked({ "Retry-After": "7" }), 7_000);
  assert.equal(asked({ "Retry-After": "7", RateLimit: '"api";r=0;t=140' }), 7_000);
  assert.equal(asked({ "Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT" }), 0);
  assert.equal(asked({ RateLimit: '"api";r=0;t=140' }), 140_000);
  assert.equal(asked({ RateLimit: '"pages";r=40;t=200, "api";r=0;t=55' }), 55_000);
  assert.equal(asked({ RateLimit: "limit=100, remaining=0, reset=30" }), 30_000);
  assert.equal(asked({ "RateLimit-Remaining": "0", "RateLimit-Reset": "12" }), 12_000);
  assert.equal(asked({ RateLimit: '"api";r=3;t=140' }), null);
  assert.equal(asked({ "RateLimit-Remaining": "9", "RateLimit-Reset": "12" }), null);
  assert.equal(asked({}), null);
});

test("a web page is distinguished from every file of a checkpoint by its beginning", () => {
  const bytes = (/** @type {string} */ text) => new TextEncoder().encode(text);
  for (const page of ["<!doctype html><p>", "\uFEFF\n <HTML lang=en>", "<!-- made by hand -->\n<html>", "<head>"]) {
    assert.equal(isWebPage(bytes(page)), true, page);
  }
  for (const file of [
    "{}",
    "",
    "<|im_start|>{{ messages }}",
    "<s>{{ x }}",
    "{# <html> #}",
    "\u0010\u0002\0\0\0\0\0\0{",
  ]) {
    assert.equal(isWebPage(bytes(file)), false, file);
  }
});

test("a web page in the place of weights is distinguished from the length of a header", () => {
  const eight = (/** @type {string} */ text) => new TextEncoder().encode(text).subarray(0, 8);
  for (const page of ["<!DOCTYPE html>", "\n\n  <html>", "\uFEFF<html>", "        <html>"]) {
    assert.equal(isWebPageForWeights(eight(page)), true, page);
  }
  // 60 bytes, as the code of "<"; a git-lfs pointer, which has an error of its own.
  for (const other of ["<\0\0\0\0\0\0\0", "\u0010\u0002\0\0\0\0\0\0", "version https://git-lfs"]) {
    assert.equal(isWebPageForWeights(eight(other)), false, other);
  }
});

test("SHA-256 without the browser's own is the standard's, at every length of the last block", async () => {
  for (const length of [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 100_003]) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 7919) % 256);
    const expected = createHash("sha256").update(bytes).digest("hex");
    assert.equal(Buffer.from(digestOf(bytes)).toString("hex"), expected, `${length} bytes`);
    // Of a part of a larger buffer.
    assert.equal(Buffer.from(digestOf(new Uint8Array([9, ...bytes]).subarray(1))).toString("hex"), expected);
    assert.equal(await sha256(bytes), expected);
  }
});

test("signals are joined where AbortSignal.any is missing, with the reason of the first", () => {
  const original = AbortSignal.any;
  // @ts-ignore: as in browsers of 2023
  delete AbortSignal.any;
  try {
    const [one, two] = [new AbortController(), new AbortController()];
    const joined = anySignal([one.signal, two.signal]);
    assert.equal(joined.aborted, false);
    two.abort("second");
    one.abort("first");
    assert.equal(joined.reason, "second");
    assert.equal(anySignal([new AbortController().signal, one.signal]).reason, "first");
  } finally {
    AbortSignal.any = original;
  }
});
