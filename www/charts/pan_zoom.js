// @ts-check
// Gestures that move and scale a picture along its width: drag, wheel, keys, two fingers. It is independent of the
// picture: positions are fractions of the width.

/** Movements below this are clicks. */
const CLICK_PIXELS = 4;
const LEAST_SPREAD_PIXELS = 12;
const KEY_PAN = 0.1;
const KEY_ZOOM = 2;
/** A notch of a mouse wheel is about 100 pixels, a step of a pinch on a touchpad a few. */
const ZOOM_PER_PIXEL = 0.005;
const PIXELS_PER_LINE = 16;

/**
 * @typedef {object} PanZoomHooks
 * @property {(by: number) => void} pan  by a fraction of what is visible; positive moves to the right
 * @property {(factor: number, at: number) => void} zoom  above 1 zooms in; `at` stays where it is
 * @property {(to: "start" | "end" | "whole") => void} jump
 * @property {(point: { x: number, y: number, width: number }) => void} click
 */

/** @param {HTMLElement} place @param {PanZoomHooks} hooks */
export function listenForPanAndZoom(place, hooks) {
  place.addEventListener("wheel", (event) => onWheel(event, hooks), { passive: false });
  place.addEventListener("keydown", (event) => onKey(event, hooks));
  listenForPointers(place, hooks);
}

/** @param {PointerEvent | WheelEvent} event */
function pointOf(event) {
  const area = /** @type {Element} */ (event.currentTarget).getBoundingClientRect();
  return { x: event.clientX - area.left, y: event.clientY - area.top, width: area.width };
}

/** A plain wheel scrolls the page. @param {WheelEvent} event @param {PanZoomHooks} hooks */
function onWheel(event, { pan, zoom }) {
  const { x, width } = pointOf(event);
  const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? PIXELS_PER_LINE : 1;
  const sideways = event.shiftKey && event.deltaX === 0 ? event.deltaY : event.deltaX;
  if (event.ctrlKey || event.metaKey) zoom(Math.exp(-event.deltaY * unit * ZOOM_PER_PIXEL), x / width);
  else if (Math.abs(sideways) >= Math.abs(event.deltaY) && sideways !== 0) pan((sideways * unit) / width);
  else return;
  event.preventDefault();
}

/** @param {KeyboardEvent} event @param {PanZoomHooks} hooks */
function onKey(event, { pan, zoom, jump }) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target !== event.currentTarget) return;
  const far = event.shiftKey ? 5 : 1;
  /** @type {Record<string, () => void>} */
  const acts = {
    ArrowLeft: () => pan(-KEY_PAN * far),
    ArrowRight: () => pan(KEY_PAN * far),
    "+": () => zoom(KEY_ZOOM, 0.5),
    "=": () => zoom(KEY_ZOOM, 0.5),
    "-": () => zoom(1 / KEY_ZOOM, 0.5),
    0: () => jump("whole"),
    Home: () => jump("start"),
    End: () => jump("end"),
  };
  if (!Object.hasOwn(acts, event.key)) return;
  event.preventDefault();
  acts[event.key]();
}

/** One pointer drags, two pinch. @param {HTMLElement} place @param {PanZoomHooks} hooks */
function listenForPointers(place, { pan, zoom, click }) {
  /** Positions of the pointers that are down. @type {Map<number, number>} */
  const down = new Map();
  let moved = 0;
  place.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    if (down.size === 0) moved = 0;
    down.set(event.pointerId, pointOf(event).x);
  });
  place.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (before === undefined) return;
    const { x, width } = pointOf(event);
    moved += Math.abs(x - before);
    if (moved < CLICK_PIXELS) return;
    if (!place.hasPointerCapture(event.pointerId)) place.setPointerCapture(event.pointerId);
    const [other] = [...down].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    down.set(event.pointerId, x);
    if (other === undefined) return pan((before - x) / width);
    const spread = (/** @type {number} */ at) => Math.max(LEAST_SPREAD_PIXELS, Math.abs(at - other));
    // The point under the other finger stays; the point under this finger follows it.
    zoom(spread(x) / spread(before), other / width);
  });
  for (const type of /** @type {const} */ (["pointerup", "pointercancel"])) {
    place.addEventListener(type, (event) => {
      if (!down.delete(event.pointerId) || type === "pointercancel" || down.size > 0) return;
      if (moved < CLICK_PIXELS) click(pointOf(event));
    });
  }
}
