"""Cost of sampling an epoch: python benchmarks/sampling.py [--rows 100000].

Prints milliseconds to sample an epoch of a large manifest at a given rate with strata and hard
samples, on one and on three ranks, and to form its keys; median of several epochs.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from datamodules.sampling.config import EpochConfig
from datamodules.sampling.epoch_sampler import SamplingPool, TrainingSampler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=9)
    asked = parser.parse_args()
    random = np.random.default_rng(0)
    positive = random.random(asked.rows) < 0.22
    stratum = np.where(
        positive,
        np.array(["1_q1", "1_q2", "1_q3", "1_q4"])[random.integers(4, size=asked.rows)],
        "0_none",
    )
    pool = SamplingPool(
        np.arange(asked.rows),
        positive,
        stratum,
        np.where(random.random(asked.rows) < 0.1, 2.0, 1.0),
    )
    weights = {"1_q4": 0.8, "1_q3": 0.7, "1_q2": 0.7, "1_q1": 0.6, "0_none": 0.2}
    batches = asked.rows // 12
    for name, plan in (
        ("hard samples twice as often", EpochConfig(512, 12)),
        (
            "rate .7, strata, hard samples, without replacement",
            EpochConfig(512, 12, None, 0.7, weights),
        ),
        (
            f"the same, {batches * 12:,} images, with replacement",
            EpochConfig(512, 12, batches, 0.7, weights),
        ),
    ):
        for ranks in (1, 3):
            wanted = (
                plan
                if plan.batches is None
                else EpochConfig(512, 12, batches // ranks, 0.7, weights)
            )
            drawing, keying = [], []
            for epoch in range(asked.epochs):
                keys = TrainingSampler(
                    pool, lambda _, plan=wanted: plan, 0, lambda epoch=epoch: epoch, 0, ranks
                )
                start = time.perf_counter()
                images = keys.sampled_rows(epoch)[0].size
                drawing.append(time.perf_counter() - start)
                start = time.perf_counter()
                _ = list(keys)
                keying.append(time.perf_counter() - start - drawing[-1])
            drawn, keyed = (1000 * median(seconds) for seconds in (drawing, keying))
            print(
                f"{name}, {ranks} rank(s): {drawn:.0f} ms to draw {images:,} of {asked.rows:,}"
                f" rows, {keyed:.0f} ms for their keys over the epoch"
            )


if __name__ == "__main__":
    main()
