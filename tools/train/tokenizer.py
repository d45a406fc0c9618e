"""Train the tokenizer: byte-level BPE of 4,096 tokens over the training pages.

Second step of the recipe. Writes tokenizer.json (for the `tokenizers` library, Python and Rust), and the token
streams train.npy and validation.npy, documents separated by </s><s>. Byte-level, so any text round-trips; the split
pattern is the built-in GPT-2 one, which needs no special regex engine. Validation pages are not used.
"""

import argparse
import json
from pathlib import Path

import numpy
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCABULARY = 4096
SPECIAL = ["<pad>", "<s>", "</s>"]  # ids 0, 1, 2, as in Zamba2's configuration
BOS, EOS = 1, 2


def read_pages(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def train_tokenizer(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", BOS)]
    )
    return tokenizer


def stream(tokenizer, texts):
    ids = []
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        ids += [BOS, *encoding.ids, EOS]
    return numpy.array(ids, dtype=numpy.uint16)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True, help="output folder of corpus.py")
    data = arguments.parse_args().data
    tokenizer = train_tokenizer(read_pages(data / "train.jsonl"))
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"{tokenizer.get_vocab_size()} tokens, expected {VOCABULARY}")
    tokenizer.save(str(data / "tokenizer.json"))
    for part in ("train", "validation"):
        texts = read_pages(data / f"{part}.jsonl")
        ids = stream(tokenizer, texts)
        for text in texts[:50]:
            if tokenizer.decode(tokenizer.encode(text).ids) != text:
                raise SystemExit("a page does not round-trip")
        numpy.save(data / f"{part}.npy", ids)
        size = sum(len(text.encode()) for text in texts)
        print(f"{part:12} {len(ids):9,} tokens, {size / len(ids):.2f} bytes per token")


if __name__ == "__main__":
    main()
