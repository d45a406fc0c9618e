"""Measure an exported folder on the validation pages and against the reference implementation.

Last step of the recipe. Prints, as JSON: loss per token, perplexity and bits per byte with a unigram baseline; the
same for weights on the 8-bit and 4-bit grids of the runtime, and how often their most likely token equals that of f32
(q4 has the embedding in 8 bits, as the runtime has; q4_all has it in 4; q4_peak is the grid used in training); and the
largest difference of logits from `transformers`. All in f32. Only weights are quantised: a runtime that also quantises
activations agrees slightly less.
"""

import argparse
import json
import math
from pathlib import Path

import numpy
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import Zamba2ForCausalLM

from model import Config, Zamba2
from quantise import q4, q4_peak, q8, quantised

SEQUENCE = 512
BATCH = 4


def load(folder):
    known = Config.__dataclass_fields__
    config = json.loads((folder / "config.json").read_text())
    model = Zamba2(Config(**{name: value for name, value in config.items() if name in known},
                          rope_theta=config["rope_parameters"]["rope_theta"]))
    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return model.eval()


def windows(stream, length):
    stream = torch.from_numpy(stream.astype(numpy.int64))
    count = (len(stream) - 1) // length
    return torch.stack([stream[i * length:(i + 1) * length + 1] for i in range(count)])


def unigram(train, validation, vocabulary):
    """Loss of the unigram frequencies of the training text, with add-one smoothing."""
    counts = numpy.bincount(train, minlength=vocabulary) + 1.0
    return float(-numpy.log(counts / counts.sum())[validation].mean())


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", type=Path, required=True)
    arguments.add_argument("--data", type=Path, required=True, help="output folder of tokenizer.py")
    arguments.add_argument("--reference-tokens", type=int, default=256)
    options = arguments.parse_args()
    model = load(options.model)
    train, validation = (numpy.load(options.data / f"{part}.npy") for part in ("train", "validation"))
    rows = windows(validation, SEQUENCE)
    targets = rows[:, 1:].flatten()
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    # </s> and <s> are predicted by the model but have no bytes.
    size = sum(len(tokenizer.decode(row[1:].tolist(), skip_special_tokens=True).encode()) for row in rows)

    losses, choices = {}, {}
    grids = {"f32": (None,), "q8": (q8,), "q4": (q4, q8), "q4_all": (q4,), "q4_peak": (q4_peak,)}
    for name, grid in grids.items():
        with torch.no_grad(), quantised(model, *grid):
            loss, picked = 0.0, []
            for batch in rows.split(BATCH):
                logits = model(batch[:, :-1]).flatten(0, 1)
                loss += F.cross_entropy(logits, batch[:, 1:].flatten(), reduction="sum").item()
                picked.append(logits.argmax(-1))
        losses[name], choices[name] = loss / len(targets), torch.cat(picked)

    reference = Zamba2ForCausalLM.from_pretrained(options.model, dtype=torch.float32, attn_implementation="eager")
    ids = rows[:1, :options.reference_tokens]
    with torch.no_grad():
        ours, theirs = model(ids), reference(ids, use_cache=False).logits
    result = {
        "validation_tokens": len(targets),
        "validation_bytes": size,
        "unigram_loss": unigram(train, rows.flatten().numpy(), model.config.vocab_size),
        "loss": losses,
        "perplexity": {name: math.exp(loss) for name, loss in losses.items()},
        "bits_per_byte": {name: loss * len(targets) / size / math.log(2) for name, loss in losses.items()},
        "top1_accuracy": {name: (ids == targets).float().mean().item() for name, ids in choices.items()},
        "top1_agreement_with_f32": {
            name: (choices[name] == choices["f32"]).float().mean().item() for name in grids if name != "f32"},
        "reference_tokens": ids.shape[1],
        "reference_max_logit_difference": (ours - theirs).abs().max().item(),
        "reference_logit_deviation": theirs.std().item(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
