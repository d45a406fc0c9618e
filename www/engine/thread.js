// @ts-check
// One thread of the engine: a worker with the memory of the engine's worker. It runs the jobs of the thread pool and,
// once that has begun, handles no messages any more. Messages in: `{ address, module, memory }` (`address` of the
// bindings), then "serve". Message out, once, after the hello of every worker: "ready" or an error.

/** The bindings, whose types exist only after a build. @type {any} */
let engine;

onmessage = async ({ data }) => {
  if (data === "serve") return serve();
  try {
    engine = await import(/* webpackIgnore: true */ /* @vite-ignore */ data.address);
    engine.initSync({ module: data.module, memory: data.memory });
  } catch (error) {
    postMessage(String(error));
    return;
  }
  postMessage("ready");
};

function serve() {
  try {
    engine.serve_as_thread();
  } catch (trap) {
    // The engine's worker waits inside wasm, where it gets no messages but sees a flag in the shared memory.
    engine.note_thread_trap();
    console.error("A thread of the engine stopped:", trap);
  }
}
