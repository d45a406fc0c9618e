"""The 4-bit and 8-bit weight grids of the runtime, for fake quantisation in training and for the evaluation.

Symmetric, blocks of 32 along the input dimension, one scale per block. It does not pack anything: weights keep their
shape and type and only move onto the grid. Norms, convolutions, A_log, D and dt_bias are left as they are.
"""

from contextlib import contextmanager

import torch
from torch import nn

BLOCK = 32


def snap(weight, bits):
    """The nearest point of the grid. 4 bits: the scale puts the block's largest value, with its sign, on -8."""
    rows, columns = weight.shape
    # A row that ends inside a block (the adapters' rank is 16) has a short last block.
    padded = torch.nn.functional.pad(weight, (0, -columns % BLOCK)).view(rows, -1, BLOCK)
    largest = padded.gather(-1, padded.abs().argmax(-1, keepdim=True))
    low = -(1 << (bits - 1))
    scale = largest / low if bits == 4 else largest.abs() / 127
    # The scale is kept in f16 next to the block.
    scale = scale.half().to(weight.dtype)
    steps = torch.where(scale == 0, 0, padded / torch.where(scale == 0, 1, scale)).round().clamp(low, -low - 1)
    return (steps * scale).view(rows, -1)[:, :columns]


def matrices(model):
    return [module.weight for module in model.modules() if isinstance(module, (nn.Linear, nn.Embedding))]


@contextmanager
def quantised(model, bits):
    """Within it every matrix lies on the grid. Gradients taken inside apply to the kept values outside, which is
    exactly the straight-through estimator. bits=None changes nothing."""
    if bits is None:
        yield
        return
    kept = []
    with torch.no_grad():
        for weight in matrices(model):
            kept.append((weight, weight.detach().clone()))
            weight.copy_(snap(weight, bits))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in kept:
                weight.copy_(value)
