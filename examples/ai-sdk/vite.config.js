import { defineConfig } from "vite";

// With these headers the page may share memory between threads; the host of the build should send them as well.
const headers = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

export default defineConfig({ server: { headers }, preview: { headers } });
