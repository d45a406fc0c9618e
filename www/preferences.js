// @ts-check
// Choices that the browser remembers for this page.

/**
 * Storage can be refused, in private windows for one; the choice then lasts as long as the page.
 * @param {string} name
 * @param {string} value
 */
export function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Nothing to do: the page works without it.
  }
}

/** @param {string} name */
export function remembered(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}
