"""A synthetic sweep folder with finished, pruned, failed and interrupted trials."""

import json
from pathlib import Path

import yaml

from reporting.outcome import Outcome, write_outcome

HEADS = ("f1", "auc", "recall")
COMMON = [
    "experiment=lora_pneumonia",
    "scale=demo",
    "resume=auto",
    "+callbacks.pruning={_target_:callbacks.optuna_pruning.OptunaPruning}",
]


def trial(
    sweep: Path,
    number: int,
    words: list[str],
    score: float | None,
    status: str | None = "finished",
    why: str | None = None,
    epochs=4,
):
    """One trial; `status` None leaves no outcome."""
    folder = sweep / str(number)
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra/overrides.yaml").write_text(yaml.safe_dump([*COMMON, *words]))
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"monitor": {"name": "val/f1", "mode": "max"}})
    )
    if status is not None:
        write_outcome(
            folder, Outcome(status=status, score=score, failure=why, seconds=60.0 + number)
        )
    reached = [(score or 0.5) * (k + 1) / epochs for k in range(epochs)]
    rows = [f"{k},{k * 3},,{value}\n{k},{k * 3},0.5," for k, value in enumerate(reached)]
    (folder / "metrics.csv").write_text("\n".join(["epoch,step,train/loss,val/f1", *rows]))
    if status == "finished":
        other = {
            name: {"value": 0.4 + place / 10 - number / 1000} for place, name in enumerate(HEADS)
        }
        report = {
            "title": "t",
            "headline_metrics": list(HEADS),
            "scores": {"val": {"PNEUMONIA": other}, "test": {"PNEUMONIA": other}},
            "parameters": {"trainable": 495177},
        }
        (folder / "report.json").write_text(json.dumps(report))
        (folder / "report.html").write_text("<p>a page</p>")


def sweep(folder: Path, trials: int = 12) -> Path:
    """Write a sweep whose score follows the rate alone.

    The third trial failed, the fifth was pruned and the seventh was interrupted.
    """
    for k in range(trials):
        lr, rank = 10 ** (-4 + 2 * ((k * 7) % trials) / trials), (4, 8, 16)[k % 3]
        words = [f"module.optimizer.lr={lr!r}", f"module.net.lora.rank={rank}"]
        words += [f"module.net.lora.alpha={8 * (k % 2 + 1)}", f"module.loss.alpha=0.{k + 11}"]
        score = 0.6 + 0.3 * ((k * 7) % trials) / trials
        if k == 2:
            trial(folder, k, words, None, "failed", "Invalid rate: <b>-1</b>")
        elif k == 4:
            trial(folder, k, words, score, "pruned", epochs=2)
        else:
            trial(folder, k, words, score, None if k == 6 else "finished")
    return folder
