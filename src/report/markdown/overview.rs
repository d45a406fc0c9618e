//! Report sections: general parameters, FLOPs, charts, and one block as an example.

use crate::model::config::BlockKind;
use crate::report::markdown::Page;
use crate::report::markdown::text::{chart, fixed, giga, ms, plain};
use crate::report::numbers::grouped;
use crate::report::summary::ratio;

impl Page<'_> {
    pub fn general(&mut self) {
        let general = &self.summary.general;
        self.line(&format!("# {}", plain(&general.model)));
        self.title("report.general.title");
        let forward_ms = format!("{:.2}", general.forward_us.median / 1e3);
        self.quantity("report.general.forward", &forward_ms, "report.unit.ms");
        for (key, value) in [
            ("report.general.hidden_size", general.hidden_size),
            ("report.general.vocab_size", general.vocab_size),
            ("report.general.prompt_tokens", general.prompt_tokens),
            ("report.general.n_blocks", general.n_blocks),
        ] {
            self.fact(key, &value.to_string());
        }
        self.fact("report.general.parameters", &grouped(general.parameters));
    }

    pub fn flops(&mut self) {
        self.title("report.flops.title");
        let phase = &self.summary.prefill;
        let kinds = phase.flops_by_kind;
        for (key, flops) in [
            ("report.flops.linear", kinds.linear + kinds.conv1d),
            ("report.flops.attention", kinds.attention),
            ("report.flops.ssm", kinds.ssm),
        ] {
            let share = 100.0 * ratio(flops, phase.flops);
            self.fact(key, &format!("{} GFLOPs ({share:.1}%)", giga(flops, 2)));
        }
        let total = format!("{} GFLOPs", giga(phase.flops, 2));
        self.fact("report.flops.total", &total);
        let rate = format!("{} TFLOPs", fixed(phase.tflops, 2));
        self.fact("report.flops.rate", &rate);
    }

    pub fn charts(&mut self) {
        self.title("report.charts.title");
        let phase = &self.summary.prefill;
        let blocks = phase.blocks.iter().map(|row| {
            let mark = match row.kind {
                BlockKind::Hybrid => '◆',
                BlockKind::Mamba => ' ',
            };
            (format!("{:>3} {mark}", row.block), row.us.median)
        });
        let types = phase.types.iter().filter(|row| row.self_us > 0.0);
        let types = types.map(|row| (row.class.clone(), row.self_us));
        for (key, bars) in [
            ("report.charts.blocks", blocks.collect::<Vec<_>>()),
            ("report.charts.types", types.collect()),
        ] {
            let text = chart(self.word(key), &bars);
            self.line(&text);
        }
    }

    /// The first hybrid block, which has every part, or the first block of a model without one.
    pub fn one_block(&mut self) {
        self.title("report.block.title");
        let blocks = &self.summary.prefill.blocks;
        let hybrid = blocks.iter().find(|row| row.kind == BlockKind::Hybrid);
        let Some(row) = hybrid.or(blocks.first()) else {
            return;
        };
        let shapes = &self.run.model.config;
        let is_hybrid = row.kind == BlockKind::Hybrid;
        let (yes, no) = (self.word("report.yes"), self.word("report.no"));
        let has_shared = if is_hybrid { yes } else { no };
        let ffn_size = match is_hybrid {
            true => shapes.intermediate_size.to_string(),
            false => self.word("report.none").into(),
        };
        self.fact("report.block.number", &row.block.to_string());
        self.fact("report.block.has_mamba", yes);
        self.fact("report.block.has_decoder", has_shared);
        self.fact("report.block.has_shared", has_shared);
        let hidden_size = shapes.hidden_size.to_string();
        self.fact("report.general.hidden_size", &hidden_size);
        self.fact("report.block.ffn_size", &ffn_size);
        let flops = row.flops.parts;
        for (key, flops) in [
            ("report.block.flops_attention", flops.attention),
            ("report.block.flops_ffn", flops.ffn),
            ("report.block.flops_mamba", flops.mamba),
            ("report.block.flops_linear", flops.other),
        ] {
            self.fact(key, &format!("{} GF", giga(flops, 3)));
        }
        if let (Some(shared), Some(call)) = (row.shared_transformer, row.call) {
            self.fact("report.block.call", &format!("{shared}, {call}"));
        }
        let us = row.parts_us;
        let times = [us.mamba, us.attention, us.ffn, us.other].map(ms);
        self.quantity("report.block.times", &times.join(", "), "report.unit.ms");
    }
}
