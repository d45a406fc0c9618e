// @ts-check
// Navigation within a long view: one button per section, of which the one in view is marked. It stays at the top of the
// window and moves focus to the section's heading.

import { button, element } from "../dom.js";
import { t } from "../words.js";

/** @import { Key } from "../words.js" */

/** A section is in view if it crosses this part of the window, below the sticky header. */
const ZONE = "-130px 0px -55% 0px";
const IN_FULL = 0.9;

export class SectionNav {
  #in_zone = new Set();
  #in_view = new Set();
  /** The last chosen section. If it is near, the page may not scroll far enough to reach it. @type {number | null} */
  #chosen = null;

  /** @param {Key} label @param {{ name: Key, section: HTMLElement }[]} sections in the order of the page */
  constructor(label, sections) {
    this.label = label;
    this.sections = sections;
    this.root = element("nav", "section-nav");
    this.buttons = sections.map((_, at) => button("", () => this.goTo(at), "small"));
    this.root.append(...this.buttons);
    this.mark(0);
    this.observe({ rootMargin: ZONE }, this.#in_zone);
    this.observe({ threshold: IN_FULL }, this.#in_view);
    for (const type of ["wheel", "touchmove", "keydown"]) {
      window.addEventListener(type, () => (this.#chosen = null), { passive: true });
    }
  }

  /** @param {IntersectionObserverInit} options @param {Set<number>} seen */
  observe(options, seen) {
    const observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        const at = this.sections.findIndex(({ section }) => section === target);
        if (isIntersecting) seen.add(at);
        else seen.delete(at);
      }
      this.showCurrent();
    }, options);
    for (const { section } of this.sections) observer.observe(section);
  }

  showWords() {
    this.root.setAttribute("aria-label", t(this.label));
    this.sections.forEach(({ name }, at) => (this.buttons[at].textContent = t(name)));
  }

  /** @param {number} at */
  goTo(at) {
    const { section } = this.sections[at];
    section.scrollIntoView({ block: "start" });
    const heading = section.querySelector("h2");
    if (heading) {
      heading.tabIndex = -1;
      heading.focus({ preventScroll: true });
    }
    this.#chosen = at;
    this.mark(at);
  }

  showCurrent() {
    if (this.#chosen !== null) return;
    const last = this.sections.length - 1;
    // The last section may never reach the top of the window, and above the first one there is no section.
    if (this.#in_view.has(last)) this.mark(last);
    else this.mark(this.#in_zone.size === 0 ? 0 : Math.min(...this.#in_zone));
  }

  /** @param {number} current */
  mark(current) {
    this.buttons.forEach((one, at) => {
      if (at === current) one.setAttribute("aria-current", "true");
      else one.removeAttribute("aria-current");
    });
    const { root } = this;
    const { offsetLeft, offsetWidth } = this.buttons[current];
    const is_cut = offsetLeft < root.scrollLeft || offsetLeft + offsetWidth > root.scrollLeft + root.clientWidth;
    if (is_cut) root.scrollLeft = offsetLeft - (root.clientWidth - offsetWidth) / 2;
  }
}
