// @ts-check
// Preferences of the user, in localStorage.

/**
 * If storage is not available, for example in a private window, the preference is lost when the page closes.
 * @param {string} name
 * @param {string} value
 */
export function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // The page works without it.
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
