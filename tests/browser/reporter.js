// @ts-check
// Sends the result of every test to run.js, which started this process.

import { inspect, stripVTControlCharacters } from "node:util";

/** @typedef {{ name: string, seconds: number, skipped: string | null, failure: string | null }} Result */

/** @param {AsyncIterable<{ type: string, data: any }>} events of node:test */
export default async function* reporter(events) {
  for await (const { type, data } of events) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    const { name, skip, details } = data;
    const { cause = details.error } = details.error ?? {};
    /** @type {Result} */
    const result = {
      name,
      seconds: details.duration_ms / 1000,
      skipped: skip === undefined || skip === false ? null : String(skip),
      failure: type === "test:fail" ? stripVTControlCharacters(cause?.stack ?? inspect(cause)) : null,
    };
    process.send?.(result);
  }
  yield "";
}
