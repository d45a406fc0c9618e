// @ts-check
// One thread of the engine: a worker of the engine's worker, which shares its memory and then never returns to its
// messages. It computes what the pool in src/backend/cpu/pool.rs hands it, and decides nothing.
// Message in, once: `{ address, module, memory }`, the first of the bindings. Message out, once: "ready", or why not.

onmessage = async ({ data: { address, module, memory } }) => {
  let engine;
  try {
    engine = await import(address);
    engine.initSync({ module, memory });
  } catch (error) {
    postMessage(String(error));
    return;
  }
  postMessage("ready");
  try {
    engine.serve_as_thread();
  } catch (trap) {
    // The engine's worker waits inside wasm and hears no message; it sees a flag in the shared memory.
    engine.note_thread_trap();
    console.error("A thread of the engine stopped:", trap);
  }
};
