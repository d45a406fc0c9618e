//! A run in the Trace Event Format of Perfetto, speedscope and chrome://tracing: one track for whole passes, one for
//! blocks and one for the parts of blocks, with memory as counters.

use serde::Serialize;

use crate::family;
use crate::model::module::{OpKind, Part};
use crate::report::run::{Run, Spans};

/// Process id of all events.
const PROCESS: u32 = 1;
const TRACKS: [&str; 6] = ["passes", "blocks", "mamba", "attention", "ffn", "other"];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    trace_events: Vec<Event>,
    display_time_unit: &'static str,
}

#[derive(Serialize)]
struct Event {
    name: String,
    /// Event type: `X` is a span, `C` a counter, `M` the name of a track.
    ph: char,
    /// Microseconds.
    ts: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    pid: u32,
    tid: usize,
    args: serde_json::Value,
}

pub fn write(run: &Run) -> String {
    let mut events = Vec::new();
    for (number, measured) in run.runs.iter().enumerate() {
        add_run(run, number, &measured.spans, &mut events);
    }
    // Viewers expect a parent span before its children.
    events.sort_by(|a, b| {
        (a.ts.total_cmp(&b.ts)).then(b.dur.unwrap_or(0.0).total_cmp(&a.dur.unwrap_or(0.0)))
    });
    let named = |name: &str, tid: usize, value: &str| Event {
        name: name.into(),
        ph: 'M',
        ts: 0.0,
        dur: None,
        pid: PROCESS,
        tid,
        args: serde_json::json!({ "name": value }),
    };
    let mut all = vec![named(
        "process_name",
        0,
        &format!("{} · {}", run.model.name, run.label),
    )];
    all.extend((TRACKS.iter().enumerate()).map(|(tid, track)| named("thread_name", tid, track)));
    all.extend(events);
    let trace = Trace {
        trace_events: all,
        display_time_unit: "ms",
    };
    serde_json::to_string(&trace).expect("a trace is plain data")
}

fn add_run(run: &Run, number: usize, spans: &Spans, events: &mut Vec<Event>) {
    let tree = family::full_plan(&run.config()).tree;
    let mut block: Vec<Option<usize>> = Vec::with_capacity(spans.len());
    // First start and last end of each pass.
    let mut passes: Vec<Option<(f64, f64)>> = Vec::new();
    for row in 0..spans.len() {
        let name = &spans.names[spans.name[row]];
        let around = usize::try_from(spans.parent[row])
            .ok()
            .and_then(|p| block[p]);
        let own = family::block_of_span(name).or(around);
        block.push(own);
        let module = tree.by_span(own, name).map(|id| tree.get(id));
        let tid = match module.map_or((None, Part::Other), |m| (Some(m.op), m.part)) {
            // Blocks and calls of shared transformers.
            (Some(OpKind::Container), _) => 1,
            (_, Part::Mamba) => 2,
            (_, Part::Attention) => 3,
            (_, Part::Ffn) => 4,
            (_, Part::Other) => 5,
        };
        let (start_us, duration_us) = (spans.start_us[row], spans.duration_us[row]);
        events.push(Event {
            name: name.clone(),
            ph: 'X',
            ts: start_us,
            dur: Some(duration_us),
            pid: PROCESS,
            tid,
            args: serde_json::json!({
                "block": own, "flops": spans.flops[row], "bytes": spans.bytes[row],
            }),
        });
        let pass = spans.pass[row];
        if passes.len() <= pass {
            passes.resize(pass + 1, None);
        }
        let (first, last) = passes[pass].unwrap_or((f64::INFINITY, 0.0));
        passes[pass] = Some((first.min(start_us), last.max(start_us + duration_us)));
    }
    for (pass, times) in passes.into_iter().enumerate() {
        if let Some(times) = times {
            add_pass(run, number, pass, times, events);
        }
    }
}

/// A whole pass, and memory at its end.
fn add_pass(
    run: &Run,
    number: usize,
    pass: usize,
    (first_us, last_us): (f64, f64),
    events: &mut Vec<Event>,
) {
    let name = match pass {
        0 => format!("run {number}: prefill"),
        step => format!("run {number}: token {step}"),
    };
    let event = |name: String, ph: char, ts: f64, dur: Option<f64>, args| Event {
        name,
        ph,
        ts,
        dur,
        pid: PROCESS,
        tid: 0,
        args,
    };
    let positions = (run.prompt_tokens + pass) as f64;
    let memory = serde_json::json!({
        "weights": run.memory.weights_bytes,
        "ssm_state": run.memory.ssm_state_bytes,
        "conv_state": run.memory.conv_state_bytes,
        "kv": run.memory.kv_bytes_per_token as f64 * positions,
    });
    let args = serde_json::json!({ "pass": pass });
    events.push(event(name, 'X', first_us, Some(last_us - first_us), args));
    events.push(event("memory_bytes".into(), 'C', last_us, None, memory));
}
