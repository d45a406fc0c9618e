// @ts-check
// The part of the Hub's API that a load needs: the current commit of a revision. Files are fetched by byte_source.js.

import { isCommit } from "./addresses.js";
import { UrlSource } from "./byte_source.js";
import { Zamba2Error } from "./errors.js";

/** @import { RetryPolicy, WaitListener } from "./retry_policy.js" */
/** @import { HubPlace } from "./zamba2.d.ts" */

/** Mirrors of the Hub may have the same addresses without its API. */
const HUB = "https://huggingface.co";

/**
 * The commit of a revision, so that all files of a load are of one commit. Null if the host does not provide it.
 * @param {HubPlace} place @param {AbortSignal} signal
 * @param {{ retry?: Partial<RetryPolicy>, onWait?: WaitListener }} [options]
 * @returns {Promise<string | null>}
 */
export async function commitOf({ origin, repo, revision }, signal, options) {
  if (isCommit(revision)) return revision;
  const api = new UrlSource(`${origin}/api/models/${repo}/revision/`, options);
  const is_hub = origin === HUB;
  try {
    const reply = await api.whole(encodeURIComponent(revision), signal);
    const { sha } = JSON.parse(new TextDecoder().decode(reply));
    return typeof sha === "string" && isCommit(sha) ? sha : null;
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return null;
    if (!(thrown instanceof Zamba2Error)) throw thrown;
    const file = `${repo}@${revision}`;
    if (thrown.code === "missing_file") {
      if (!is_hub) return null;
      throw new Zamba2Error("http_status", { file, status: 404, at: 0 }, { next: "repository", cause: thrown });
    }
    // The Hub answers 401 for a repository that does not exist.
    const next = thrown.next === "refused" ? "repository" : thrown.next;
    throw new Zamba2Error(thrown.code, { ...thrown.values, file }, { next, cause: thrown });
  }
}
