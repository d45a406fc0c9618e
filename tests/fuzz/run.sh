#!/usr/bin/env bash
# tests/fuzz/run.sh TARGET [EXECUTIONS [OPTION ...]]: fuzzes one target, from the fixtures and from what earlier runs
# found. Options are libFuzzer's: `-timeout=30` on a busy machine, because the second that an input may take is time by
# the clock.
# It needs `cargo install cargo-fuzz` and a nightly toolchain.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=$1
executions=${2:-10000000}
state=target/fuzz
mkdir -p "$state/corpus/$target" "$state/artifacts/$target"
cargo run --quiet --manifest-path tests/fuzz/Cargo.toml --target-dir "$state/seeds-build" --example seeds -- "$state/seeds"
# Safe Rust needs no address sanitizer. A second per input and 512 MB at once are far above what any input may cost; the
# process itself may grow, because libFuzzer's statistics of its corpus do.
cargo +nightly fuzz run --fuzz-dir tests/fuzz --target-dir "$state/build" --sanitizer none "$target" \
  "$state/corpus/$target" "$state/seeds/$target" -- \
  -runs="$executions" -timeout=1 -rss_limit_mb=4096 -malloc_limit_mb=512 -max_len=65536 -print_final_stats=1 \
  -artifact_prefix="$state/artifacts/$target/" "${@:3}"
