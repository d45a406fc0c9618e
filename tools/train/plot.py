"""Draw loss.csv as loss.svg: training and validation loss against tokens. Reads nothing else."""

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--table", type=Path, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    options = arguments.parse_args()
    with open(options.table, newline="") as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.plot([int(r["tokens"]) / 1e6 for r in rows], [float(r["train_loss"]) for r in rows],
              linewidth=0.8, label="training, mean of 20 steps")
    checked = [r for r in rows if r["validation_loss"]]
    axes.plot([int(r["tokens"]) / 1e6 for r in checked], [float(r["validation_loss"]) for r in checked],
              marker="o", markersize=3, label="validation")
    axes.set_xlabel("million tokens")
    axes.set_ylabel("loss, nats per token")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(options.out, metadata={"Date": None})


if __name__ == "__main__":
    main()
