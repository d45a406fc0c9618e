"""Train the model: Muon for the hidden matrices, AdamW for the rest, warm-up, plateau, decay to zero.

Third step of the recipe. The number of steps can be changed during training: start and end of the decay may come from
a control file that is read before every step. During the decay every other step uses 4-bit weights (straight-through),
so that the final weights work both unquantised and quantised. Writes a checkpoint every few minutes, from which the
run resumes, and loss.csv. One process on a CPU; no data parallelism.
"""

import argparse
import csv
import json
import os
import time
from pathlib import Path

import numpy
import torch
from torch.nn import functional as F

from model import Config, Zamba2
from quantise import q4_peak, quantised

SEQUENCE = 512
BATCH = 4
STEPS = 1380
DECAY_FROM = 1056
WARM_UP = 60
MUON_RATE = 0.02
ADAM_RATE = 4e-3
WEIGHT_DECAY = 0.05
MUON_MOMENTUM = 0.95
VALIDATE_EVERY = 200
CHECKPOINT_SECONDS = 120
SEED = 1


def orthogonalise(stack):
    """Newton-Schulz iteration towards U Vᵀ for a stack of matrices, with Muon's quintic and five iterations."""
    x = stack
    transposed = x.shape[-2] > x.shape[-1]
    if transposed:
        x = x.mT
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * (gram @ gram)) @ x
    x = x.float()
    return x.mT if transposed else x


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum; matrices of equal shape are processed as one stack."""

    def __init__(self, parameters, rate, momentum, weight_decay):
        super().__init__(parameters, {"lr": rate, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for parameter in group["params"]:
                shapes.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in shapes.items():
                updates = []
                for parameter in parameters:
                    state = self.state[parameter]
                    if not state:
                        state["momentum"] = torch.zeros_like(parameter)
                    buffer = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                    updates.append(parameter.grad.lerp(buffer, group["momentum"]))
                updates = orthogonalise(torch.stack(updates))
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                for parameter, update in zip(parameters, updates):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update, alpha=-group["lr"] * scale)


def optimisers(model):
    matrices, embeddings, small = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "embed_tokens" not in name:
            matrices.append(parameter)
        elif "embed_tokens" in name:
            embeddings.append(parameter)
        else:
            small.append(parameter)
    adam = torch.optim.AdamW(
        [{"params": embeddings, "weight_decay": 0.01}, {"params": small, "weight_decay": 0.0}],
        lr=ADAM_RATE, betas=(0.9, 0.95), fused=True)
    found = [Muon(matrices, MUON_RATE, MUON_MOMENTUM, WEIGHT_DECAY), adam]
    for optimiser in found:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return found


def rate_factor(step, steps, decay_from):
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    if step < decay_from:
        return 1.0
    return max(0.0, (steps - step) / (steps - decay_from))


class Windows:
    """Every epoch splits the stream at a new random offset and visits the windows in a new random order."""

    def __init__(self, stream, length, seed):
        self.stream = torch.from_numpy(stream.astype(numpy.int64))
        self.length = length
        self.seed = seed
        self.epoch, self.position, self.order = -1, 0, []

    def start(self, epoch):
        generator = numpy.random.default_rng([self.seed, epoch])
        offset = int(generator.integers(self.length))
        count = (len(self.stream) - 1 - offset) // self.length
        self.order = offset + self.length * generator.permutation(count)
        self.epoch, self.position = epoch, 0

    def batch(self, size):
        rows = []
        for _ in range(size):
            if self.position >= len(self.order):
                self.start(self.epoch + 1)
            at = int(self.order[self.position])
            self.position += 1
            rows.append(self.stream[at:at + self.length + 1])
        return torch.stack(rows)

    def state(self):
        return self.epoch, self.position

    def restore(self, epoch, position):
        self.start(epoch)
        self.position = position


def loss_of(model, batch):
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


@torch.no_grad()
def validate(model, stream):
    stream = torch.from_numpy(stream.astype(numpy.int64))
    count = (len(stream) - 1) // SEQUENCE
    batches = torch.stack([stream[i * SEQUENCE:(i + 1) * SEQUENCE + 1] for i in range(count)]).split(BATCH)
    # A short last batch is dropped, because it would compile the mixer for another shape.
    losses = [loss_of(model, batch).item() for batch in batches if len(batch) == BATCH]
    return sum(losses) / len(losses)


def save(path, model, optims, windows, step, seconds):
    state = {
        "model": model.state_dict(), "config": model.config.to_dict(), "optimisers": [o.state_dict() for o in optims],
        "windows": windows.state(), "rng": torch.get_rng_state(), "step": step, "seconds": seconds,
    }
    temporary = path.with_suffix(".new")
    torch.save(state, temporary)
    os.replace(temporary, path)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True, help="output folder of tokenizer.py")
    arguments.add_argument("--out", type=Path, required=True, help="folder for checkpoint.pt and loss.csv")
    arguments.add_argument("--steps", type=int, default=STEPS)
    arguments.add_argument("--decay-from", type=int, default=DECAY_FROM)
    arguments.add_argument("--control", type=Path, help='JSON {"steps", "decay_from"}, read before every step')
    arguments.add_argument("--threads", type=int, default=2)
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    train_stream = numpy.load(options.data / "train.npy")
    validation_stream = numpy.load(options.data / "validation.npy")
    model = Zamba2(Config())
    model.compile()
    optims = optimisers(model)
    windows = Windows(train_stream, SEQUENCE, SEED)
    checkpoint, table = options.out / "checkpoint.pt", options.out / "loss.csv"
    step, before = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimiser, saved in zip(optims, state["optimisers"]):
            optimiser.load_state_dict(saved)
        windows.restore(*state["windows"])
        torch.set_rng_state(state["rng"])
        step, before = state["step"], state["seconds"]
    rows = []
    if table.exists():
        with open(table, newline="") as file:
            rows = [row for row in csv.reader(file)][1:]
            rows = [row for row in rows if int(row[0]) <= step]
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "tokens", "train_loss", "validation_loss", "seconds"])
        writer.writerows(rows)
    steps, decay_from = options.steps, options.decay_from
    started = saved_at = time.monotonic()
    recent = []
    while step < steps:
        if options.control and options.control.exists():
            control = json.loads(options.control.read_text())
            steps, decay_from = control["steps"], control["decay_from"]
        factor = rate_factor(step, steps, decay_from)
        for optimiser in optims:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * factor
        # Alternating, so that the loss stays low with both f32 and 4-bit weights.
        grid = q4_peak if step >= decay_from and step % 2 else None
        with quantised(model, grid):
            loss = loss_of(model, windows.batch(BATCH))
            loss.backward()
        torch.nn.utils.clip_grad_norm_(optims[1].param_groups[0]["params"] + optims[1].param_groups[1]["params"], 1.0)
        for optimiser in optims:
            optimiser.step()
        model.zero_grad(set_to_none=True)
        step += 1
        recent.append(loss.item())
        now = time.monotonic()
        if step % 20 == 0 or step == steps:
            seconds = before + now - started
            due = step % VALIDATE_EVERY == 0 or step == steps
            value = f"{validate(model, validation_stream):.4f}" if due else ""
            row = [step, step * BATCH * SEQUENCE, f"{sum(recent) / len(recent):.4f}", value, f"{seconds:.0f}"]
            recent = []
            with open(table, "a", newline="") as file:
                csv.writer(file).writerow(row)
            print(*row, flush=True)
        if now - saved_at > CHECKPOINT_SECONDS or step == steps:
            save(checkpoint, model, optims, windows, step, before + time.monotonic() - started)
            saved_at = time.monotonic()


if __name__ == "__main__":
    main()
