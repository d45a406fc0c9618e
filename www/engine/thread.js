// @ts-check
// One thread of the engine: a worker that shares the memory of the engine's worker and, once it serves, never returns to
// its messages. It computes what the pool in src/backend/cpu/pool.rs hands it, and decides nothing.
// Messages in: `{ address, module, memory }`, the first of the bindings, and then "serve". Message out, once: "ready", or
// why not.

/** The bindings, whose types exist only after a build. @type {any} */
let engine;

onmessage = async ({ data }) => {
  if (data === "serve") return serve();
  try {
    engine = await import(data.address);
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
    // The engine's worker waits inside wasm and hears no message; it sees a flag in the shared memory.
    engine.note_thread_trap();
    console.error("A thread of the engine stopped:", trap);
  }
}
