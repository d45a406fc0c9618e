"""Profiles the reference implementation (transformers) as the published report did, but with each module counted once.

    python3 -m venv venv && venv/bin/pip install -r tools/fixtures/requirements.txt
    venv/bin/python tools/reference/profile_reference.py CHECKPOINT_FOLDER [--threads 2] [--runs 5] > report.md

Forward hooks measure each module's inclusive time in one forward pass of 35 tokens; the pass itself is timed without
hooks. `docs/example/` has its output next to the page's report. FLOPs are not counted.
"""

import argparse
import statistics
import time

import torch
import transformers
from transformers import AutoModelForCausalLM


def milliseconds(run):
    start = time.perf_counter()
    result = run()
    return (time.perf_counter() - start) * 1e3, result


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--decode", type=int, default=8)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    model = AutoModelForCausalLM.from_pretrained(given.folder, dtype=torch.bfloat16).float().eval()
    config = model.config
    ids = torch.tensor([[i * 7919 % config.vocab_size for i in range(35)]])  # [1, 35]

    with torch.no_grad():
        forward_ms, decode_ms = [], []
        for run in range(given.runs + 1):
            took_ms, output = milliseconds(lambda: model(ids, use_cache=True))
            steps_ms = []
            for _ in range(given.decode):
                token = output.logits[:, -1:].argmax(-1)  # [1, 1]
                cache = output.past_key_values
                step_ms, output = milliseconds(lambda: model(token, past_key_values=cache, use_cache=True))
                steps_ms.append(step_ms)
            # The first run warms up.
            if run > 0:
                forward_ms.append(took_ms)
                decode_ms += steps_ms

        calls = {}  # (name of the module) -> [type, durations in ms]
        started = {}

        def before(name):
            def hook(*_):
                started.setdefault(name, []).append(time.perf_counter())
            return hook

        def after(name, kind):
            def hook(*_):
                took_ms = (time.perf_counter() - started[name].pop()) * 1e3
                calls.setdefault(name, [kind, []])[1].append(took_ms)
            return hook

        # Each module object once: a shared one has several names, and its calls include those under all of them.
        for name, module in model.named_modules():
            module.register_forward_pre_hook(before(name))
            module.register_forward_hook(after(name, type(module).__name__))
        for run in range(given.runs):
            model(ids, use_cache=True)

    types = {}
    for kind, durations_ms in calls.values():
        row = types.setdefault(kind, [0, 0.0])
        row[0] += len(durations_ms) // given.runs
        row[1] += sum(durations_ms) / given.runs

    print("# Zamba2 in the reference implementation\n")
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, CPU, {given.threads} threads, float32, "
          f"{given.runs} runs after a warm-up.\n")
    print(f"- Forward pass: {statistics.median(forward_ms):.2f} ms (from {min(forward_ms):.2f} to {max(forward_ms):.2f})")
    print(f"- Decode step: {statistics.median(decode_ms):.2f} ms (from {min(decode_ms):.2f} to {max(decode_ms):.2f})")
    print(f"- Hidden size: {config.hidden_size}")
    print(f"- Vocabulary size: {config.vocab_size}")
    print(f"- Prompt length: {ids.shape[1]}")
    print(f"- Blocks: {config.num_hidden_layers}")
    print(f"- Parameters: {sum(p.numel() for p in model.parameters())}\n")
    print("## Time by type of module (inclusive: the rows contain one another)\n")
    print("| Type | Calls | Total (ms) | Mean (ms) |\n|---|---:|---:|---:|")
    for kind, (count, total_ms) in sorted(types.items(), key=lambda row: -row[1][1]):
        print(f"| {kind} | {count} | {total_ms:.3f} | {total_ms / max(count, 1):.4f} |")
    leaves = [(name, kind, sum(ms) / given.runs, len(ms) // given.runs) for name, (kind, ms) in calls.items()
              if kind not in ("Zamba2ForCausalLM", "Zamba2Model", "Zamba2MambaDecoderLayer", "Zamba2HybridLayer")]
    print("\n## The slowest modules (20)\n\n| Module | Type | Calls | ms |\n|---|---|---:|---:|")
    for name, kind, total_ms, count in sorted(leaves, key=lambda leaf: -leaf[2])[:20]:
        print(f"| `{name}` | {kind} | {count} | {total_ms:.3f} |")


if __name__ == "__main__":
    main()
