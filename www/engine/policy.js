// @ts-check
// Detects Content Security Policies that block a file of the engine or of a model. The failed request does not show it,
// but an event does. It works on the page and in workers, each of which has its own policy.

import { Zamba2Error } from "./errors.js";

/** Violations in this page or worker. @type {{ directive: string, blocked: string }[]} */
const violations = [];
let is_watching = false;

/** The event may arrive after the failure that it explains. */
const EVENT_MS = 50;

export function watchPolicy() {
  if (is_watching) return;
  is_watching = true;
  addEventListener("securitypolicyviolation", (event) => {
    if (event.disposition === "enforce")
      violations.push({ directive: event.effectiveDirective, blocked: event.blockedURI });
  });
}

/**
 * The error for a file that failed, if a policy has blocked it.
 * @param {string} file @param {string} address  "wasm-eval" for the compilation of a WebAssembly module
 */
export async function policyFault(file, address) {
  await new Promise((resolve) => setTimeout(resolve, EVENT_MS));
  // For schemes other than HTTP the event has only the scheme, and in some browsers blocked addresses have no query.
  const found = violations.findLast(({ blocked }) => blocked !== "" && address.startsWith(blocked));
  if (!found) return null;
  // Specific directives such as script-src-elem fall back to the general one, which is what policies usually have.
  const directive = found.directive.replace(/-(?:elem|attr)$/, "");
  return new Zamba2Error("policy", { file, directive, source: sourceOf(address) });
}

/** What the directive lacks. @param {string} address */
function sourceOf(address) {
  if (address === "wasm-eval") return "'wasm-unsafe-eval'";
  const { protocol, origin } = new URL(address);
  if (!protocol.startsWith("http")) return protocol;
  return origin === self.origin ? "'self'" : origin;
}
