// @ts-check
// The Prompt API's sampling modes and parameters as options of the engine.

/** @import { GenerateOptions } from "../zamba2.d.ts" */
/** @import * as api from "./prompt_api.d.ts" */

/** Above this temperature nearly all tokens are equally probable. */
export const MAX_TEMPERATURE = 2;

/** `balanced` is the engine's default. @type {Record<api.LanguageModelSamplingMode, GenerateOptions>} */
const MODES = {
  "most-predictable": { temperature: 0 },
  predictable: { temperature: 0.3 },
  balanced: {},
  creative: { temperature: 1 },
  "most-creative": { temperature: 1.3, top_k: 0 },
};

/** @param {api.LanguageModelCreateCoreOptions} options @returns {GenerateOptions} */
export function samplingOptions({ samplingMode, temperature, topK }) {
  if (samplingMode !== undefined) {
    if (!Object.hasOwn(MODES, samplingMode)) throw new TypeError(`'${samplingMode}' is not a sampling mode.`);
    if (temperature !== undefined || topK !== undefined) {
      throw new TypeError("samplingMode excludes temperature and topK.");
    }
    return MODES[samplingMode];
  }
  /** @type {GenerateOptions} */
  const options = {};
  if (temperature !== undefined) {
    if (!(temperature >= 0)) throw new RangeError("The temperature is less than 0.");
    options.temperature = Math.min(temperature, MAX_TEMPERATURE);
  }
  if (topK !== undefined) {
    if (!(topK >= 1)) throw new RangeError("topK is less than 1.");
    // The engine takes 32 bits; a vocabulary is smaller.
    options.top_k = Math.min(Math.floor(topK), 2 ** 31);
  }
  return options;
}
