// @ts-check
// The published Zamba2 models with their sizes, and whether each fits into memory here. It loads nothing.

import { DEFAULT_KV_BYTES, WASM_MEMORY_LIMIT_BYTES } from "../../pkg/limits.js";
import { namedButton } from "../dom.js";
import { bytesText, t } from "../words.js";
import { PUBLISHED_SIZES } from "./published_sizes.js";

/** @import { Weights } from "../engine/zamba2.d.ts" */
/** @import { Backend } from "./model_picker.js" */

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

/**
 * @param {HTMLElement} list @param {Weights} weights @param {Backend} backend @param {(repo: string) => void} onChoose
 */
export async function showCatalogue(list, weights, backend, onChoose) {
  const { usage = 0, quota = Infinity } = (await navigator.storage?.estimate?.()) ?? {};
  const room_bytes = quota - usage;
  list.replaceChildren(
    ...MODELS.map(({ repo, size }) => {
      const { parameters, stored_bytes } = PUBLISHED_SIZES[size];
      const kept_bytes = stored_bytes[weights];
      const memory_bytes = kept_bytes + OTHER_BYTES;
      const name = document.createElement("strong");
      name.textContent = repo;
      const facts = t("catalogue.item", {
        download: bytesText(parameters * CHECKPOINT_BYTES_PER_PARAMETER),
        kept: bytesText(kept_bytes),
        memory: bytesText(memory_bytes),
      });
      const obstacles = [];
      // The engine refuses more. With WebGPU, weights and cache are in the adapter's memory, whose size is not known.
      if (kept_bytes + DEFAULT_KV_BYTES > WASM_MEMORY_LIMIT_BYTES) {
        obstacles.push(t(backend === "cpu" ? "catalogue.no_memory" : "catalogue.only_webgpu"));
      }
      if (kept_bytes > room_bytes) obstacles.push(t("catalogue.no_room", { room: bytesText(room_bytes) }));
      const item = document.createElement("li");
      item.append(name, ` ${facts}; ${obstacles.join("; ") || t("catalogue.fits")}. `);
      item.append(namedButton(t("catalogue.choose"), t("catalogue.choose.name", { name: repo }), () => onChoose(repo)));
      return item;
    }),
  );
}
