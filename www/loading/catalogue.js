// @ts-check
// The published Zamba2 models with their sizes, and whether each fits here. It chooses, and loads nothing.

import { namedButton } from "../dom.js";
import { bytesText, t } from "../words.js";

/** @import { Weights } from "../engine/zamba2.d.ts" */

/** Parameters as in the checkpoints' headers; each is stored in two bytes. */
const MODELS = [
  { repo: "Zyphra/Zamba2-1.2B-instruct", parameters: 1_215_064_704 },
  { repo: "Zyphra/Zamba2-1.2B", parameters: 1_215_064_704 },
  { repo: "Zyphra/Zamba2-2.7B-instruct", parameters: 2_662_214_560 },
  { repo: "Zyphra/Zamba2-2.7B", parameters: 2_662_214_560 },
  { repo: "Zyphra/Zamba2-7B-Instruct", parameters: 7_356_749_648 },
];
const CHECKPOINT_BYTES_PER_PARAMETER = 2;
/**
 * Of `zamba2 pack` for 1.2B: blocks of 32 with a scale, and in q4 an embedding in q8.
 * @type {Record<Weights, number>}
 */
const KEPT_BYTES_PER_PARAMETER = { q4: 0.595, q8: 1.125, f32: 4 };
/** The program, activations and a KV cache of 1,024 positions. */
const OTHER_BYTES = 0.3e9;
/** What wasm32 can address. */
const MAX_MEMORY_BYTES = 2 ** 32;

/** @param {HTMLElement} list @param {Weights} weights @param {(repo: string) => void} onChoose */
export async function showCatalogue(list, weights, onChoose) {
  const { usage = 0, quota = Infinity } = (await navigator.storage?.estimate?.()) ?? {};
  const room_bytes = quota - usage;
  list.replaceChildren(
    ...MODELS.map(({ repo, parameters }) => {
      const kept_bytes = parameters * KEPT_BYTES_PER_PARAMETER[weights];
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
