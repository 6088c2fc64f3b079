"""Cost of logging and reporting beside the training of a demo run.

Parts are metrics.csv, W&B offline, the page, and all else that callbacks log.

Each round is one run with all of it; every call is timed, so that a part and the training are
measured in the same run.

python benchmarks/logging_overhead.py [--rounds 3] [words for run.py, such as trainer.max_epochs=2]
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import run

SECONDS: dict[str, float] = defaultdict(float)
_running: list[str] = []


def clocked(name: str, own: Any) -> Any:
    """Wrap a function so that its time counts for a part.

    The time of nested calls counts for the outermost part alone.
    """

    def call(*arguments: Any, **named: Any) -> Any:
        if _running:
            return own(*arguments, **named)
        _running.append(name)
        start = time.perf_counter()
        try:
            return own(*arguments, **named)
        finally:
            SECONDS[name] += time.perf_counter() - start
            _running.pop()

    return call


def instrument() -> None:
    """Install the clocks."""
    from lightning.pytorch.callbacks import LearningRateMonitor

    from callbacks.report_writer import ReportWriter
    from callbacks.resource_monitor import ResourceMonitor
    from callbacks.sampling_monitor import SamplingMonitor
    from engine import runner
    from engine.tracking import MetricsCsvLogger, logger
    from engine.tracking.logger import PrivateWandbLogger

    parts: list[tuple[str, Any, tuple[str, ...]]] = [
        ("metrics.csv", MetricsCsvLogger, ("log_metrics", "log_hyperparams", "save", "finalize")),
        ("W&B: start", logger, ("start",)),
        (
            "W&B: metrics",
            PrivateWandbLogger,
            ("log_metrics", "log_hyperparams", "finalize", "save"),
        ),
        ("W&B: results and end", PrivateWandbLogger, ("close",)),
        ("page", ReportWriter, ("on_test_end", "teardown")),
        ("drawn", SamplingMonitor, ("on_fit_start", "on_train_batch_end", "on_train_epoch_end")),
        (
            "learning rate",
            LearningRateMonitor,
            ("on_train_start", "on_train_batch_start", "on_train_epoch_start"),
        ),
        (
            "resources",
            ResourceMonitor,
            ("on_fit_start", "on_train_epoch_start", "on_train_batch_end", "on_fit_end"),
        ),
        ("plan", runner, ("print_summary",)),
    ]
    for name, place, functions in parts:
        for function in functions:
            setattr(place, function, clocked(name, getattr(place, function)))


def once(words: list[str], folder: Path) -> dict[str, float]:
    """Return the seconds of each part of one run, and of its training."""
    SECONDS.clear()
    sys.argv = [
        "run.py",
        "logger=wandb",
        "logger.wandb.mode=offline",
        *words,
        f"hydra.run.dir={folder}",
    ]
    run.main()
    return dict(SECONDS) | {
        "training": json.loads((folder / "report.json").read_text())["resources"]["train_seconds"]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    arguments, words = parser.parse_known_args()
    instrument()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("MEDICAL_CACHE", f"{folder}/cache")
        rounds = [once(words, Path(folder) / str(i)) for i in range(arguments.rounds)]
    names = [name for name in rounds[0] if name != "training"]
    shares = {
        name: [100 * found.get(name, 0.0) / found["training"] for found in rounds] for name in names
    }
    print(
        f"training: {statistics.median(found['training'] for found in rounds):.1f} s, median of"
        f" {len(rounds)} rounds in one process"
    )
    for name, values in shares.items():
        seconds = statistics.median(found.get(name, 0.0) for found in rounds)
        print(
            f"{name:22} {seconds:7.3f} s  {statistics.median(values):6.2f} % of training "
            f" ({', '.join(f'{value:.2f}' for value in values)})"
        )
    total = [sum(values) for values in zip(*shares.values(), strict=True)]
    print(f"{'together':22} {'':7}    {statistics.median(total):6.2f} %")


if __name__ == "__main__":
    main()
