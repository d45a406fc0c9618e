// @ts-check
// The first script of a deployed page: `cargo xtask dist` writes it into index.html as a classic script. So a page that
// has to reload to become isolated fetches neither its module nor a model before. During development only main.js calls
// `isolate`.

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
  // Added scripts run when they arrive, and the module needs the whole markup.
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", append);
  else append();
}

// main.js calls it again, for its messages: by then the page is isolated, or the attempt has failed and is not
// repeated.
void isolate().then((isolation) => {
  if (isolation !== "reloading") start();
});
