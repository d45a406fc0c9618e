//! The stages of `cargo xtask test`: their names, what they check, and which run in parallel.

/// A part of the checks that can be run alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Format,
    Lint,
    Native,
    Docs,
    Kernels,
    Types,
    Package,
    Browser,
    Engines,
}

/// In the order of `--list`.
pub const STAGES: [Stage; 9] = [
    Stage::Format,
    Stage::Lint,
    Stage::Native,
    Stage::Docs,
    Stage::Kernels,
    Stage::Types,
    Stage::Package,
    Stage::Browser,
    Stage::Engines,
];

/// Stages that run in parallel, each lane in order. The lanes lock different build folders.
pub const LANES: [&[Stage]; 2] = [
    // The lints are those of the programs that the native tests and the kernels' compile, and of the package's builds.
    &[Stage::Format, Stage::Native, Stage::Lint, Stage::Docs],
    // The package's site is packed by a program that the native tests compile.
    &[Stage::Types, Stage::Kernels, Stage::Package],
];

/// Stages that run after the lanes, one by one.
pub const ALONE: [Stage; 2] = [Stage::Browser, Stage::Engines];

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Stage::Format => "format",
            Stage::Lint => "lint",
            Stage::Native => "native",
            Stage::Docs => "docs",
            Stage::Kernels => "kernels",
            Stage::Types => "types",
            Stage::Package => "package",
            Stage::Browser => "browser",
            Stage::Engines => "engines",
        }
    }

    pub fn purpose(self) -> &'static str {
        match self {
            Stage::Format => "Rust formatting",
            Stage::Lint => "Rust lints, for this machine and for the browser",
            Stage::Native => "Rust tests on this machine",
            Stage::Docs => "Rust documentation",
            Stage::Kernels => {
                "kernel tests and unit tests as WebAssembly in Node.js, with plain and relaxed SIMD"
            }
            Stage::Types => "JavaScript types and formatting",
            Stage::Package => {
                "the npm package in projects that use it, the site, and the crate's files"
            }
            Stage::Browser => "the page and the package in Chromium",
            Stage::Engines => "the page's main path in Firefox and WebKit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ALONE, LANES, STAGES};

    #[test]
    fn every_stage_runs_in_one_lane_or_alone() {
        for stage in STAGES {
            let lanes = LANES.iter().filter(|lane| lane.contains(&stage)).count();
            assert_eq!(
                lanes,
                usize::from(!ALONE.contains(&stage)),
                "{}",
                stage.name()
            );
        }
    }
}
