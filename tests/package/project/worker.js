// The application's own worker, which uses the package.

import { generate } from "./generate.js";

onmessage = async ({ data: { source, base } }) => postMessage(await generate(source, { base }));
