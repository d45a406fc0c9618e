//! Report sections: measuring conditions, advice and cautions.

use crate::report::markdown::Page;
use crate::report::markdown::text::{date, figure, plain};
use crate::report::numbers::grouped;
use crate::report::reference::{self, ReferenceKind};
use crate::report::run::RecordedLevel;
use crate::report::sentence::Sentence;
use crate::words;

impl Page<'_> {
    pub fn conditions(&mut self) {
        self.title("report.conditions.title");
        let (general, conditions) = (&self.summary.general, &self.run.conditions);
        let date = format!("{} UTC", date(self.run.made_ms));
        self.fact("report.conditions.date", &date);
        let mut backend = format!("{}, {}", plain(&general.backend), plain(&general.host));
        if let Some(isolated) = conditions.isolated {
            let key = match isolated {
                true => "report.conditions.isolated",
                false => "report.conditions.not_isolated",
            };
            backend += &format!(", {}", self.word(key));
        }
        self.fact("report.conditions.backend", &backend);
        let weights = format!(
            "{}, {}, {}",
            general.weights, general.threads, general.context
        );
        self.fact("report.conditions.weights", &weights);
        let runs = format!("{} ({})", general.runs, general.warmup);
        self.fact("report.conditions.runs", &runs);
        for choice in &conditions.kernels {
            let of = choice.of.to_string();
            let values = [("variant", &plain(&choice.variant)[..]), ("of", &of)];
            let chosen = words::sentence(self.language, "report.kernel", &values);
            self.line(&format!("- {}: {chosen}", plain(&choice.op)));
        }
        let level = match conditions.level {
            RecordedLevel::Module => "report.conditions.level.module",
            RecordedLevel::Block => "report.conditions.level.block",
        };
        self.fact("report.conditions.level", self.word(level));
        let step_us = figure(general.timer_resolution_us);
        let timer = plain(&general.timer.text(self.language));
        let clock = format!("{timer}, {step_us}");
        self.quantity("report.conditions.clock", &clock, "report.unit.us");
        let note = format!("\n{}", self.word("report.conditions.note"));
        self.line(&note);
    }

    pub fn sentences(&mut self) {
        let summary = self.summary;
        for (title, sentences) in [
            ("advice.title", &summary.advice),
            ("report.cautions.title", &summary.cautions),
        ] {
            if !sentences.is_empty() {
                self.title(title);
                self.bullets(sentences);
            }
        }
    }

    fn bullets(&mut self, sentences: &[Sentence]) {
        for sentence in sentences {
            let line = format!("- {}", plain(&sentence.text(self.language)));
            self.line(&line);
        }
    }

    pub fn reference(&mut self) {
        self.title("report.reference.title");
        let [published, recomputed] =
            [ReferenceKind::Published, ReferenceKind::Recomputed].map(reference::report);
        let explanation = published.explanation.text(self.language);
        self.line(&format!("{explanation}\n"));
        self.columns(&[
            &published.model,
            "report.reference.published",
            "report.reference.recomputed",
        ]);
        let parameters = self.word("report.reference.parameters");
        let counts = [published.parameters, recomputed.parameters].map(grouped);
        self.row(&[parameters, &counts[0], &counts[1]]);
        let gflops = [
            format!("{:.2}", published.flops / 1e9),
            format!("{:.3}", recomputed.flops / 1e9),
        ];
        self.row(&["GFLOPs", &gflops[0], &gflops[1]]);
        let tflops = [
            format!("{:.2}", published.tflops),
            format!("{:.4}", recomputed.tflops),
        ];
        self.row(&["TFLOPs", &tflops[0], &tflops[1]]);
    }
}
