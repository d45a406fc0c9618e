//! Report sections: the tables of blocks, module types and modules.

use crate::report::markdown::Page;
use crate::report::markdown::text::{figure, fixed, giga, ms, percent, plain};
use crate::report::summary::ratio;
use crate::words;

const SLOWEST: usize = 20;

impl Page<'_> {
    pub fn blocks(&mut self) {
        let title = format!("\n### {}", self.word("report.blocks.title"));
        self.line(&title);
        self.columns(&[
            "report.block.number",
            "Mamba (GF)",
            "Attention (GF)",
            "FFN (GF)",
            "report.column.tflops",
            "report.column.ms",
            "report.column.p5_p95",
            "report.column.gb_per_s",
            "report.column.ceiling",
        ]);
        for row in &self.summary.prefill.blocks {
            let parts = row.flops.parts;
            self.row(&[
                row.block.to_string(),
                giga(parts.mamba, 3),
                giga(parts.attention, 3),
                giga(parts.ffn, 3),
                fixed(row.tflops, 2),
                ms(row.us.median),
                format!("{}–{}", ms(row.us.p5), ms(row.us.p95)),
                fixed(row.gb_per_s, 1),
                percent(row.percent_of_ceiling),
            ]);
        }
    }

    pub fn types(&mut self) {
        self.title("report.types.title");
        self.columns(&[
            "report.column.type",
            "report.column.count",
            "report.column.total_ms",
            "report.column.mean_ms",
            "report.column.self_ms",
            "report.column.time_percent",
            "report.column.flops_percent",
        ]);
        let phase = &self.summary.prefill;
        for row in &phase.types {
            self.row(&[
                plain(&row.class),
                row.count.to_string(),
                ms(row.us),
                ms(row.mean_us),
                ms(row.self_us),
                format!("{:.1}", row.time_percent),
                format!("{:.1}", row.flops_percent),
            ]);
        }
        let untracked_ms = ms(phase.untracked_us);
        let share = 100.0 * ratio(phase.untracked_us, phase.profiled_us.median);
        let share = format!("{share:.1}");
        let name = self.word("report.types.untracked");
        self.row(&[name, "", &untracked_ms, "", &untracked_ms, &share, ""]);
        let note = format!("\n{}", self.word("report.types.note"));
        self.line(&note);
    }

    pub fn slowest(&mut self) {
        let n = SLOWEST.to_string();
        let title = words::sentence(self.language, "report.slowest.title", &[("n", &n)]);
        self.line(&format!("\n## {title}"));
        let unit = self.word("report.unit.ms");
        for row in self.summary.prefill.modules.iter().take(SLOWEST) {
            let (self_ms, path) = (ms(row.self_us), row.path.replace('`', "'"));
            let class = plain(&row.class);
            self.line(&format!("- {self_ms} {unit} — `{path}` ({class})"));
        }
    }

    pub fn decode(&mut self) {
        if self.run.decode_tokens == 0 {
            return;
        }
        self.title("report.decode.title");
        let phase = &self.summary.decode;
        let per_token = words::sentence(
            self.language,
            "report.decode.token",
            &[
                ("ms", &ms(phase.wall_us.median)),
                ("speed", &figure(1e6 * ratio(1.0, phase.wall_us.median))),
            ],
        );
        self.line(&format!("- {per_token}\n"));
        self.columns(&[
            "report.column.type",
            "report.column.count",
            "report.column.self_ms",
            "report.column.time_percent",
            "report.column.flops_percent",
        ]);
        for row in phase.types.iter().filter(|row| row.self_us > 0.0) {
            self.row(&[
                plain(&row.class),
                row.count.to_string(),
                ms(row.self_us),
                format!("{:.1}", row.time_percent),
                format!("{:.1}", row.flops_percent),
            ]);
        }
    }
}
