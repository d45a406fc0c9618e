"""Print sampled continuations of an exported folder by the reference implementation, for inspection."""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import Zamba2ForCausalLM

PROMPTS = (
    "Ownership is",
    "# Traits\n\nA trait",
    "The `match` expression",
    "```rust\nfn main() {",
    "To build the project with Cargo,",
)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", type=Path, required=True)
    arguments.add_argument("--tokens", type=int, default=100)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("prompts", nargs="*", default=PROMPTS)
    options = arguments.parse_args()
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    model = Zamba2ForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    torch.manual_seed(options.seed)
    for prompt in options.prompts:
        ids = torch.tensor([tokenizer.encode(prompt).ids])
        output = model.generate(ids, max_new_tokens=options.tokens, do_sample=True, temperature=0.7, top_p=0.9)
        print(f"--- {prompt!r}\n{tokenizer.decode(output[0].tolist())}\n", flush=True)


if __name__ == "__main__":
    main()
