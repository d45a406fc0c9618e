// @ts-check
// Makes a browser's device have subgroups. wgpu cannot request them: on the web it maps a fixed set of its features to
// WebGPU's, without subgroups, and calls `requestDevice` itself. But it passes WGSL on as it is, so a device that has
// the feature runs the shaders. The only place left to add it is the browser's own `requestDevice`, in this worker
// only.

let is_installed = false;

/** Every device that is requested from now on has subgroups, if its adapter supports them. */
export function requestSubgroups() {
  if (is_installed) return;
  is_installed = true;
  const { prototype } = /** @type {any} */ (globalThis).GPUAdapter;
  const requestDevice = prototype.requestDevice;
  /** @param {any} [descriptor] */
  prototype.requestDevice = function (descriptor = {}) {
    // After a loss of the device the next adapter may be another one, and would refuse a feature that it lacks.
    if (!this.features.has("subgroups")) return requestDevice.call(this, descriptor);
    const requiredFeatures = [...(descriptor.requiredFeatures ?? []), "subgroups"];
    return requestDevice.call(this, { ...descriptor, requiredFeatures });
  };
}
