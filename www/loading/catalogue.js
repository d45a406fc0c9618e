// @ts-check
// The published Zamba2 models with their sizes, and whether each fits into memory here. It loads nothing.

import { namedButton } from "../dom.js";
import { bytesText, t } from "../words.js";

/** @import { Weights } from "../engine/zamba2.d.ts" */

/**
 * Parameters as in the checkpoints' headers, and what `zamba2 pack --json` gives for these shapes in q4 and q8; f32
 * takes four bytes each.
 * @type {Record<"1.2B" | "2.7B" | "7B",
 *   { parameters: number, kept_bytes: Record<Weights, number> }>}
 */
const SIZES = {
  "1.2B": { parameters: 1_215_064_704, kept_bytes: { q4: 722_553_856, q8: 1_296_780_288, f32: 4_860_258_816 } },
  "2.7B": { parameters: 2_662_214_560, kept_bytes: { q4: 1_548_957_696, q8: 2_838_173_696, f32: 10_648_858_240 } },
  "7B": { parameters: 7_356_749_648, kept_bytes: { q4: 4_217_220_864, q8: 7_836_286_720, f32: 29_426_998_592 } },
};
const MODELS = /** @type {const} */ ([
  { repo: "Zyphra/Zamba2-1.2B-instruct", size: "1.2B" },
  { repo: "Zyphra/Zamba2-1.2B", size: "1.2B" },
  { repo: "Zyphra/Zamba2-2.7B-instruct", size: "2.7B" },
  { repo: "Zyphra/Zamba2-2.7B", size: "2.7B" },
  { repo: "Zyphra/Zamba2-7B-Instruct", size: "7B" },
]);
/** Checkpoints are in bf16. */
const CHECKPOINT_BYTES_PER_PARAMETER = 2;
/** For the program, activations and a KV cache of 1,024 positions. */
const OTHER_BYTES = 0.3e9;
/** The address space of wasm32. */
const MAX_MEMORY_BYTES = 2 ** 32;

/** @param {HTMLElement} list @param {Weights} weights @param {(repo: string) => void} onChoose */
export async function showCatalogue(list, weights, onChoose) {
  const { usage = 0, quota = Infinity } = (await navigator.storage?.estimate?.()) ?? {};
  const room_bytes = quota - usage;
  list.replaceChildren(
    ...MODELS.map(({ repo, size }) => {
      const { parameters, kept_bytes: by_weights } = SIZES[size];
      const kept_bytes = by_weights[weights];
      const memory_bytes = kept_bytes + OTHER_BYTES;
      const name = document.createElement("strong");
      name.textContent = repo;
      const facts = t("catalogue.item", {
        download: bytesText(parameters * CHECKPOINT_BYTES_PER_PARAMETER),
        kept: bytesText(kept_bytes),
        memory: bytesText(memory_bytes),
      });
      const fits = memory_bytes <= MAX_MEMORY_BYTES;
      const has_room = kept_bytes <= room_bytes;
      const verdict = !fits
        ? t("catalogue.no_memory")
        : has_room
          ? t("catalogue.fits")
          : t("catalogue.no_room", { room: bytesText(room_bytes) });
      const item = document.createElement("li");
      item.append(name, ` ${facts}; ${verdict}. `);
      item.append(namedButton(t("catalogue.choose"), t("catalogue.choose.name", { name: repo }), () => onChoose(repo)));
      return item;
    }),
  );
}
