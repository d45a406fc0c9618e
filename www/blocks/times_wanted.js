// @ts-check
// How often the engine measures block times: as often as the visible views show them. On a graphics adapter, measuring
// makes a token slower.

/** The heat map has a column for each token. */
const EVERY_TOKEN = 1;
/** The strip shows a median over recent tokens, which changes slowly. */
const FOR_STRIP = 16;

/**
 * Calls `onChange` now and whenever the wanted distance of measured tokens changes; 0 means that none is measured.
 * @param {{ strip: Element, heat: Element }} places @param {(every: number) => void} onChange
 */
export function watchTimesWanted({ strip, heat }, onChange) {
  /** @type {Set<Element>} */
  const seen = new Set();
  let wanted = -1;
  const update = () => {
    const shown = (/** @type {Element} */ place) => !document.hidden && seen.has(place);
    const every = shown(heat) ? EVERY_TOKEN : shown(strip) ? FOR_STRIP : 0;
    if (every === wanted) return;
    wanted = every;
    onChange(every);
  };
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) seen.add(target);
      else seen.delete(target);
    }
    update();
  });
  observer.observe(strip);
  observer.observe(heat);
  document.addEventListener("visibilitychange", update);
  update();
}
