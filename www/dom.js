// @ts-check
// DOM helpers shared by the views: lookup, elements, titled cards, metric tiles, definition lists.

/** @template {HTMLElement} [T=HTMLElement] @param {string} id */
export const byId = (id) => /** @type {T} */ (document.getElementById(id));

/**
 * A button that opens the file dialog of an input.
 * @param {HTMLElement} button
 * @param {HTMLInputElement} input
 * @param {(file: File) => void} act
 */
export function onFile(button, input, act) {
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const file = input.files?.[0];
    // Without this, choosing the same file again fires no event.
    input.value = "";
    if (file) act(file);
  });
}

/** @param {string} tag @param {string} kind @param {(Node | string)[]} children */
export function element(tag, kind, ...children) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.append(...children);
  return made;
}

/** @param {string} id @param {string} title @param {(Node | string)[]} children */
export function card(id, title, ...children) {
  const heading = element("h2", "", title);
  heading.id = `${id}-title`;
  const made = element("section", "card", heading, ...children);
  made.id = id;
  made.setAttribute("aria-labelledby", heading.id);
  return made;
}

/**
 * Metric tiles: a value with its label and an optional note.
 * @param {{ name: string, value: string, label: string, note?: string }[]} figures
 */
export function tiles(figures) {
  return element(
    "dl",
    "metrics tiles",
    ...figures.map(({ name, value, label, note }) => {
      const tile = element("div", "", element("dt", "", label), element("dd", "", value));
      tile.dataset.figure = name;
      if (note) tile.prepend(element("dd", "tile-note", note));
      return tile;
    }),
  );
}

/** @param {[string, string][]} rows */
export function factList(rows) {
  return element(
    "dl",
    "facts",
    ...rows.map(([name, value]) => element("div", "", element("dt", "", name), element("dd", "", value))),
  );
}

/** A scrollable region; focusable for scrolling by keyboard. @param {string} label @param {Node} child */
export function scrollBox(label, child) {
  const box = element("div", "scroll", child);
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", label);
  return box;
}

/** @param {string} text @param {() => void} act @param {string} [kind] */
export function button(text, act, kind = "") {
  const made = /** @type {HTMLButtonElement} */ (element("button", kind, text));
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

/**
 * A button whose text is clear only in its context: `label` is its accessible name.
 * @param {string} text @param {string} label @param {() => void} act
 */
export function namedButton(text, label, act) {
  const made = button(text, act);
  made.setAttribute("aria-label", label);
  return made;
}
