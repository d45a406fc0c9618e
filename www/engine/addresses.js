// @ts-check
// Interprets pasted addresses: as a folder to load a checkpoint from, or as a repository on the Hugging Face Hub. It
// sends no request, and runs outside of browsers too.

import { badOption, fact } from "./errors.js";

/** @import { Address, HubPlace } from "./zamba2.d.ts" */

const HUB = "https://huggingface.co";
/** The Hub's address, with or without the scheme. */
const HUB_HOST = /^(?:https?:\/\/)?(?:www\.)?(?:huggingface\.co|hf\.co)(?=[/?#]|$)/i;
/** The Hub's address for git over SSH. */
const HUB_SSH = /^(?:ssh:\/\/)?git@(?:huggingface\.co|hf\.co)[:/]/i;
/** First segments of the Hub's own pages, which no owner can have. */
const HUB_PAGES = new Set(
  (
    "blog chat collections docs enterprise join learn login models new organizations papers posts pricing search "
    + "settings tasks"
  ).split(" "),
);
/** Segments that a revision follows, after the name of a repository. */
const WITH_REVISION = new Set(["blame", "blob", "commit", "commits", "edit", "raw", "resolve", "revision", "tree"]);
/** A valid name on the Hub; one of dots only would leave its folder. */
const NAME = /^(?!\.+$)[\w.-]+$/;
/** Last segments that are files of a checkpoint, not folders. */
const FILE = /\.(?:bin|gguf|gitattributes|jinja|json|md|model|msgpack|onnx|pt|pth|py|safetensors|txt)$/i;
const COMMIT = /^[0-9a-f]{40}$/;

/** @param {string} revision */
export const isCommit = (revision) => COMMIT.test(revision);

/**
 * The address of a repository on the Hub, as a source.
 * @param {string} repo owner/name @param {string} [revision] a branch, tag or commit
 */
export function hubFolder(repo, revision = "main") {
  if (!/^[^/]+\/[^/]+$/.test(repo) || !repo.split("/").every((part) => NAME.test(part))) {
    throw badOption("repo", fact("not_a_repository", { value: repo }), { next: "repo" });
  }
  if (/^\.*$/.test(revision)) {
    throw badOption("revision", fact("not_a_revision", { value: revision }), { next: "revision" });
  }
  return folderOf({ origin: HUB, repo, revision, path: "" });
}

/** @param {HubPlace} place */
export const folderOf = ({ origin, repo, revision, path }) =>
  `${origin}/${repo}/resolve/${encodeURIComponent(revision)}/${path}`;

/**
 * The folder of a repository that `folder` is the address of; null for any other folder. Mirrors of the Hub have the
 * same addresses at another origin.
 * @param {string} folder @returns {HubPlace | null}
 */
export function hubPlaceOf(folder) {
  const { origin, pathname } = new URL(folder);
  const [, owner, name, revision, path] = /^\/([^/]+)\/([^/]+)\/resolve\/([^/]+)\/?(.*)$/.exec(pathname) ?? [];
  if (revision === undefined) return null;
  return { origin, repo: `${owner}/${name}`, revision: decoded(revision), path: path && withSlash(path) };
}

/**
 * The same folder at another revision.
 * @param {string} folder  of a repository @param {string} revision
 */
export function atRevision(folder, revision) {
  const url = new URL(folder);
  url.pathname = url.pathname.replace(/(\/resolve\/)[^/]+/, `$1${encodeURIComponent(revision)}`);
  return url.href;
}

/**
 * Interprets `text` as a source: a page or a file of the Hub, `hf://owner/name@revision`, or the address of a folder or
 * of a file in it.
 * @param {string} text
 * @param {string} base  that a relative address is resolved against
 * @param {{ names?: boolean }} [options]  `names`: owner/name is a repository, and not a relative address
 * @returns {Address}
 */
export function parseAddress(text, base, { names = false } = {}) {
  const plain = text.trim().replace(/^(["'<`])(.*)["'>`]$/, "$2");
  const hub = hubPath(plain, names);
  if (hub !== null) {
    const place = hubPlace(hub, plain);
    return { folder: folderOf(place), name: place.repo.split("/")[1], hub: place };
  }
  let url;
  try {
    url = new URL(plain, base);
  } catch (cause) {
    throw badOption("source", fact("not_an_address", { value: plain }), { next: "source", cause });
  }
  url.hash = "";
  const last = url.pathname.slice(url.pathname.lastIndexOf("/") + 1);
  url.pathname = FILE.test(last) ? url.pathname.slice(0, -last.length) : withSlash(url.pathname);
  const hub_place = hubPlaceOf(url.href);
  const parts = url.pathname.split("/").filter(Boolean);
  const name = hub_place?.repo.split("/")[1] ?? decoded(parts.at(-1) ?? url.host);
  return { folder: url.href, name, hub: hub_place };
}

/**
 * The part of an address on the Hub after its host; null if it is not on the Hub.
 * @param {string} text @param {boolean} names
 */
function hubPath(text, names) {
  const scheme = /^hf:\/\/(?:models\/)?/i;
  if (scheme.test(text)) return pathOfName(text.replace(scheme, ""), "refs/(?:pr|convert)/[^/]+|[^/]+");
  if (HUB_SSH.test(text)) return text.replace(HUB_SSH, "");
  if (HUB_HOST.test(text)) {
    const path = text.replace(HUB_HOST, "").replace(/[?#].*$/, "");
    return path.replace(/^\/+/, "").replace(/^api\/models\//, "");
  }
  // A leading dot or slash marks an address on this site.
  const is_name = /^[\w-][\w.-]*\/[\w-][\w.-]*(?:@.+)?$/.test(text);
  return names && is_name ? pathOfName(text, ".+") : null;
}

/**
 * `owner/name@revision/path` as the path of a page.
 * @param {string} text
 * @param {string} revision_pattern  where a path may follow, only `refs/…` may have slashes in the revision
 */
function pathOfName(text, revision_pattern) {
  const pattern = new RegExp(`^([^/@]+/[^/@]+)@(${revision_pattern})(.*)$`);
  const [, repo, revision, path] = pattern.exec(text) ?? [];
  if (repo !== undefined) return `${repo}/resolve/${encodeURIComponent(decoded(revision))}${path}`;
  const [owner, name, ...rest] = text.split("/");
  return rest.length > 0 ? [owner, name, "resolve", "main", ...rest].join("/") : text;
}

/**
 * The repository, revision and folder that the path of a page names.
 * @param {string} path @param {string} text  what was given, for the message @returns {HubPlace}
 */
function hubPlace(path, text) {
  /** @param {string} why */
  const refused = (why) => badOption("source", fact(why, { value: text }), { next: "repo" });
  const parts = path.split("/").filter(Boolean);
  const [owner, given_name, kind] = parts;
  if (owner === "datasets") throw refused("hub_dataset");
  if (owner === "spaces") throw refused("hub_space");
  if (owner === undefined || HUB_PAGES.has(owner)) throw refused("hub_no_repository");
  if (given_name === undefined) throw refused("hub_owner");
  const name = given_name.replace(/\.git$/, "");
  if (!NAME.test(owner) || !NAME.test(name)) throw refused("hub_no_repository");
  const place = { origin: HUB, repo: `${owner}/${name}`, revision: "main", path: "" };
  if (!WITH_REVISION.has(kind) || parts.length < 4) return place;

  const has_slashes = parts[3] === "refs" && parts.length >= 6;
  const rest = parts.slice(has_slashes ? 6 : 4);
  const revision = decoded(parts.slice(3, has_slashes ? 6 : 4).join("/"));
  if (/^\.*$/.test(revision)) throw refused("hub_no_repository");
  const is_file = !path.endsWith("/") && (kind === "blob" || FILE.test(rest.at(-1) ?? ""));
  if (is_file) rest.pop();
  return { ...place, revision, path: rest.map((part) => `${part}/`).join("") };
}

/** @param {string} path */
const withSlash = (path) => (path.endsWith("/") ? path : `${path}/`);

/** @param {string} segment */
function decoded(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
