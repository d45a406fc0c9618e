"""The 4-bit and 8-bit weight grids of the runtime, for fake quantisation in training and for the evaluation.

Symmetric, blocks of 32 along the input dimension, one scale per block. It does not pack anything: weights keep their
shape and type and only move onto the grid. Norms, convolutions, A_log, D and dt_bias are left as they are.
"""

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

BLOCK = 32
# The runtime tries these reaches of the largest weight, fits the scale by least squares and keeps the best.
Q4_REACHES = (-9.0, -8.4, -8.0, -7.5, -7.0, 7.2)


def steps(blocks, scale, low, high):
    return torch.where(scale == 0, 0, blocks / torch.where(scale == 0, 1, scale)).round().clamp(low, high)


def peak(blocks):
    return blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))


def q8(blocks):
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    return scale * steps(blocks, scale, -127, 127)


def q4_peak(blocks):
    """The largest weight, with its sign, on -8. Cheap enough to run in every other training step."""
    scale = peak(blocks) / -8
    return scale * steps(blocks, scale, -8, 7)


def q4(blocks):
    """The search of the runtime. Its errors are a little smaller than those of q4_peak."""
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
        # The integers are taken once more with the fitted scale, as the runtime does.
        best = torch.where(better, scale * steps(blocks, scale, -8, 7), best)
    return best


def snap(weight, grid):
    rows, columns = weight.shape
    # A row that ends inside a block (the adapters' rank is 16) has a short last block.
    blocks = F.pad(weight, (0, -columns % BLOCK)).view(rows, -1, BLOCK)
    return grid(blocks).view(rows, -1)[:, :columns]


def matrices(model):
    return [module.weight for module in model.modules() if isinstance(module, (nn.Linear, nn.Embedding))]


@contextmanager
def quantised(model, grid):
    """Within it every matrix lies on the grid. Gradients taken inside apply to the kept values outside, which is
    exactly the straight-through estimator. grid=None changes nothing."""
    if grid is None:
        yield
        return
    kept = []
    with torch.no_grad():
        for weight in matrices(model):
            kept.append((weight, weight.detach().clone()))
            weight.copy_(snap(weight, grid))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in kept:
                weight.copy_(value)
