// What every project does with the package: a short greedy run, one that follows a grammar, and what computed them.

import { load } from "zamba2-web";

/** @param {string} source @param {object} options */
export async function generate(source, options) {
  try {
    const model = await load({ source, keep: false, backend: "cpu", threads: 2, ...options });
    let text = "";
    for await (const piece of model.generate("Ownership is", { temperature: 0, max_tokens: 12 })) text += piece.text;
    let bound = "";
    for await (const piece of model.generate("Ownership is", { grammar: 'start: " good" | " bad"' }))
      bound += piece.text;
    const { build, threads } = model.info;
    model.dispose();
    return { text, bound, build, threads };
  } catch (error) {
    const { code, message, nextStep } = error;
    return { code, message, nextStep };
  }
}
