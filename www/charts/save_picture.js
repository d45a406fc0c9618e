// @ts-check
// Saves a chart as SVG or PNG as it appears on the page: computed styles are written into a copy.

import { saveFile } from "../save_file.js";

const STYLES = [
  "fill",
  "fill-opacity",
  "stroke",
  "stroke-width",
  "stroke-opacity",
  "stroke-dasharray",
  "font-family",
  "font-size",
  "font-weight",
  "opacity",
];
/** Sharp on high-density screens. */
const PNG_SCALE = 2;

/** The chart as a self-contained SVG, with its background. @param {Element} drawing */
export function standalone(drawing) {
  const copy = /** @type {SVGSVGElement} */ (drawing.cloneNode(true));
  const originals = [drawing, ...drawing.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, at) => {
    const style = getComputedStyle(originals[at]);
    for (const name of STYLES) element.setAttribute(name, style.getPropertyValue(name));
    for (const name of ["class", "tabindex", "role"]) element.removeAttribute(name);
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const ground = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  ground.setAttribute("width", "100%");
  ground.setAttribute("height", "100%");
  ground.setAttribute("fill", groundOf(drawing));
  copy.prepend(ground);
  return new XMLSerializer().serializeToString(copy);
}

/** @param {Element} drawing */
const groundOf = (drawing) => getComputedStyle(drawing.closest(".card") ?? document.body).backgroundColor;

/** @param {Element} drawing @param {string} name */
export async function saveAsSvg(drawing, name) {
  saveFile(`${name}.svg`, standalone(drawing), "image/svg+xml");
}

/** @param {Element} drawing an SVG element or a canvas @param {string} name */
export async function saveAsPng(drawing, name) {
  const { width, height } = drawing.getBoundingClientRect();
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width * PNG_SCALE);
  canvas.height = Math.round(height * PNG_SCALE);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.fillStyle = groundOf(drawing);
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (drawing instanceof HTMLCanvasElement) {
    context.imageSmoothingEnabled = false;
    context.drawImage(drawing, 0, 0, canvas.width, canvas.height);
  } else {
    const image = new Image();
    // The page's Content-Security-Policy allows data: images, but not blobs.
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(standalone(drawing))}`;
    await image.decode();
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
  }
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (blob) saveFile(`${name}.png`, blob, "image/png");
}
