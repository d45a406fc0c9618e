// What models are loaded from, and what of them is stored on this device.

import type { Weights } from "./zamba2.d.ts";

/** A folder of a repository on the Hub, or on a mirror with the same addresses. */
export interface HubPlace {
  origin: string;
  /** "owner/name" */
  repo: string;
  /** A branch, tag or commit. */
  revision: string;
  /** Of the folder in the repository: empty, or with a slash at its end. */
  path: string;
}

/** What an address means as a `source`: the folder, a name for it, and the place on the Hub if it is one there. */
export interface Address {
  folder: string;
  name: string;
  hub: HubPlace | null;
}

/**
 * Whether the weights are stored on this device, and why not: "no_storage", "insecure_page" (neither https nor
 * localhost), "other_tab", "storage_full", or the browser's message.
 */
export interface Keeping {
  state: "off" | "kept" | "refused";
  reason: string | null;
}

/** A model on this device. */
export interface KeptModel {
  key: string;
  /** The address of the folder that it was loaded from. */
  source: string;
  /** The commit that the files belong to, for a repository on the Hub. */
  commit: string | null;
  weights: Weights;
  bytes: number;
  /** Whether a load needs no network. */
  complete: boolean;
  /** Milliseconds since 1970. */
  saved_ms: number;
}
