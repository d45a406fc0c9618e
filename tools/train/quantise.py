"""The 4-bit and 8-bit weight grids of the runtime, for fake quantisation in training and for the evaluation.

Symmetric, blocks of 32 along the input dimension, one scale per block. Nothing is packed: weights keep their shape and
type and are rounded to the grid. Norms, convolutions, A_log, D and dt_bias are unchanged.
"""

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

BLOCK = 32
# The runtime tries these fractions of the largest weight as range, fits the scale by least squares and keeps the best.
Q4_REACHES = (-9.0, -8.4, -8.0, -7.5, -7.0, 7.2)


def steps(blocks, scale, low, high):
    return torch.where(scale == 0, 0, blocks / torch.where(scale == 0, 1, scale)).round().clamp(low, high)


def peak(blocks):
    return blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))


def q8(blocks):
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    return scale * steps(blocks, scale, -127, 127)


def q4_peak(blocks):
    """Maps the largest weight, with its sign, to -8. Fast enough for every other training step."""
    scale = peak(blocks) / -8
    return scale * steps(blocks, scale, -8, 7)


def q4(blocks):
    """The runtime's search. Its errors are slightly smaller than those of q4_peak."""
    best_error = torch.full_like(blocks[..., :1], float("inf"))
    best = torch.zeros_like(blocks)
    largest = peak(blocks)
    for reach in Q4_REACHES:
        integers = steps(blocks, largest / reach, -8, 7)
        product, square = (blocks * integers).sum(-1, keepdim=True), integers.square().sum(-1, keepdim=True)
        scale = torch.where(square == 0, 0, product / square.clamp(min=1))
        error = -product * scale
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        # Rounded again with the fitted scale, as in the runtime.
        best = torch.where(better, scale * steps(blocks, scale, -8, 7), best)
    return best


def snap(weight, grid):
    rows, columns = weight.shape
    # The last block of a row may be short (the LoRA rank is 16).
    blocks = F.pad(weight, (0, -columns % BLOCK)).view(rows, -1, BLOCK)
    return grid(blocks).view(rows, -1)[:, :columns]


def matrices(model, grid, embedding_grid):
    for module in model.modules():
        if isinstance(module, nn.Linear):
            yield module.weight, grid
        elif isinstance(module, nn.Embedding):
            yield module.weight, embedding_grid


@contextmanager
def quantised(model, grid, embedding_grid=None):
    """Within the context every matrix is rounded to the grid, the tied embedding to its own if one is given. Gradients
    computed inside are applied to the original values afterwards, which is the straight-through estimator. grid=None
    changes nothing."""
    if grid is None:
        yield
        return
    kept = []
    with torch.no_grad():
        for weight, grid_of_weight in matrices(model, grid, embedding_grid or grid):
            kept.append((weight, weight.detach().clone()))
            weight.copy_(snap(weight, grid_of_weight))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in kept:
                weight.copy_(value)
