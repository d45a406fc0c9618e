// @ts-check
// What a deployed page runs before anything else: `cargo xtask dist` writes it into index.html as a classic script. A
// page that has to reload to become isolated thus fetches neither its module nor a model before. During development
// main.js alone calls `isolate`.

import { isolate } from "./isolate.js";

/** Starts the page's module, as a `<script type="module">` in the markup would. */
function start() {
  const address = document.documentElement.dataset.entry ?? "";
  const preload = document.createElement("link");
  Object.assign(preload, { rel: "modulepreload", href: address });
  document.head.append(preload);
  const append = () => {
    const script = document.createElement("script");
    Object.assign(script, { type: "module", src: address });
    document.head.append(script);
  };
  // Scripts that are added run when they arrive, and the module needs the whole markup.
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", append);
  else append();
}

// main.js asks again, for its messages: either it is isolated by then, or the attempt has failed and is not repeated.
void isolate().then((isolation) => {
  if (isolation !== "reloading") start();
});
