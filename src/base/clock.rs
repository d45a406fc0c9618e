//! One monotonic clock in microseconds, natively and in a browser worker. Spans, the thread pool and session timings
//! read it; the model does not.

pub use platform::now_us;

#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
mod platform {
    use std::sync::OnceLock;
    use std::time::Instant;

    static START: OnceLock<Instant> = OnceLock::new();

    /// Microseconds since the first call.
    pub fn now_us() -> f64 {
        START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1e6
    }
}

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod platform {
    use wasm_bindgen::JsCast;
    use web_sys::{Performance, WorkerGlobalScope};

    thread_local! {
        // Cached per thread: a lookup by reflection on every call would take longer than many spans.
        static PERFORMANCE: Option<Performance> =
            js_sys::global().unchecked_into::<WorkerGlobalScope>().performance();
    }

    /// Microseconds since the worker started. Browsers round it to 5 µs when isolated and to 100 µs otherwise.
    pub fn now_us() -> f64 {
        PERFORMANCE.with(|clock| clock.as_ref().map_or(0.0, |clock| clock.now() * 1e3))
    }
}
