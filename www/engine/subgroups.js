// @ts-check
// Enables subgroups on the browser's device. wgpu cannot request them: on the web it maps a fixed set of its features
// to WebGPU's, without subgroups, and calls `requestDevice` itself. But it passes WGSL on unchanged, so a device with
// the feature runs the shaders. So the feature is added in the browser's own `requestDevice`, in this worker only.

let is_installed = false;

/** Every device requested from now on has subgroups, if its adapter supports them. */
export function requestSubgroups() {
  if (is_installed) return;
  is_installed = true;
  const { prototype } = /** @type {any} */ (globalThis).GPUAdapter;
  const requestDevice = prototype.requestDevice;
  /** @param {any} [descriptor] */
  prototype.requestDevice = function (descriptor = {}) {
    // After a device loss the next adapter may be another one, and would reject an unsupported feature.
    if (!this.features.has("subgroups")) return requestDevice.call(this, descriptor);
    const requiredFeatures = [...(descriptor.requiredFeatures ?? []), "subgroups"];
    return requestDevice.call(this, { ...descriptor, requiredFeatures });
  };
}
