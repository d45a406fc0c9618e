//! Report sections: spread of the measurements, cost of recording, ceilings and memory.

use crate::report::markdown::Page;
use crate::report::markdown::text::{figure, giga, ms, percent};
use crate::report::numbers::grouped;
use crate::report::summary::Spread;
use crate::words;

impl Page<'_> {
    pub fn spread(&mut self) {
        self.title("report.spread.title");
        // The first column has no title.
        self.columns(&[
            "",
            "report.column.median_ms",
            "report.column.p5_p95",
            "n",
            "report.column.recorded_ms",
            "report.column.recording_percent",
        ]);
        for (key, phase) in self.phases() {
            let Spread { median, p5, p95, n } = phase.wall_us;
            let overhead = match phase.is_recording_measurable {
                true => format!("{:.1}", phase.recording_percent),
                false => "–".to_owned(),
            };
            self.row(&[
                self.word(key).to_owned(),
                ms(median),
                format!("{}–{}", ms(p5), ms(p95)),
                n.to_string(),
                ms(phase.profiled_us.median),
                overhead,
            ]);
        }
    }

    pub fn ceilings(&mut self) {
        self.title("report.ceilings.title");
        let Some(c) = self.summary.ceilings else {
            self.line(self.word("report.ceilings.none"));
            return;
        };
        let rates = words::sentence(
            self.language,
            "report.ceilings.rates",
            &[
                ("int8", &figure(2.0 * c.int8_gmacs_per_s)),
                ("int16", &figure(2.0 * c.int16_gmacs_per_s)),
                ("f32", &figure(2.0 * c.f32_gmacs_per_s)),
                ("read", &figure(c.read_gb_per_s)),
                ("threads", &c.threads.to_string()),
            ],
        );
        self.line(&format!("- {rates}"));
        if let Some(copy) = c.copy_gb_per_s {
            let values = [("copy", &figure(copy)[..])];
            let copying = words::sentence(self.language, "report.ceilings.copy", &values);
            self.line(&format!("- {copying}"));
        }
        for (key, phase) in self.phases() {
            let line = words::sentence(
                self.language,
                "report.ceilings.phase",
                &[
                    ("phase", self.word(key)),
                    ("flops", &giga(phase.flops, 3)),
                    ("mb", &figure(phase.bytes / 1e6)),
                    ("intensity", &figure(phase.intensity)),
                    ("gflops", &figure(1e3 * phase.tflops)),
                    ("gb", &figure(phase.gb_per_s)),
                    ("verdict", self.word(phase.verdict.key())),
                    ("percent", &percent(phase.percent_of_ceiling)),
                ],
            );
            self.line(&format!("- {line}"));
        }
    }

    pub fn memory(&mut self) {
        self.title("report.memory.title");
        let memory = &self.run.memory;
        let unit = self.word("report.unit.mb");
        let mb = |bytes: u64| format!("{} {unit}", figure(bytes as f64 / 1e6));
        let pair = |a: u64, b: u64| format!("{}, {}", mb(a), mb(b));
        let weights = pair(memory.weights_bytes, memory.shared_bytes);
        self.fact("report.memory.weights", &weights);
        let states = pair(memory.ssm_state_bytes, memory.conv_state_bytes);
        self.fact("report.memory.states", &states);
        let kv_bytes = grouped(memory.kv_bytes_per_token);
        self.quantity("report.memory.kv", &kv_bytes, "report.unit.b");
        if let Some(bytes) = memory.process_bytes {
            self.fact("report.memory.process", &mb(bytes));
        }
    }
}
