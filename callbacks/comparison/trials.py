"""What a multirun leaves: one line a trial, ranked by val. Imports nothing heavy, because Hydra loads it before every run."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class Trials(Callback):
    """After a multirun writes trials.csv into the sweep's folder and prints it, and says which trials failed; then the exit code is 1.

    Example:
        hydra: {callbacks: {trials: {_target_: callbacks.comparison.trials.Trials}}}
    """

    def on_multirun_end(self, config: DictConfig, **more: Any) -> None:
        """Reads each trial's report.json; a trial that was not tested has no line."""
        folder = Path(config.hydra.sweep.dir)
        rows = [_row(path.parent) for path in sorted(folder.glob("*/report.json"))]
        if rows:
            _write(rows, folder)
        failed = {path.parent.name: told for path in sorted(folder.glob("*/outcome.json")) if (told := _failure(path))}
        if failed:
            lines = [f"  {name}: {told}" for name, told in failed.items()]
            print(f"{len(failed)} trials failed, the others went on:", *lines, sep="\n", file=sys.stderr)
            raise SystemExit(1)


def _failure(path: Path) -> str | None:
    import json

    return json.loads(path.read_text(encoding="utf-8"))["failure"]


def _row(trial: Path) -> dict[str, Any]:
    import json

    import yaml

    from callbacks.comparison.finished import score_of

    report = json.loads((trial / "report.json").read_text(encoding="utf-8"))
    words = yaml.safe_load((trial / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
    heads = report["heads"][:3]
    row: dict[str, Any] = {"trial": trial.name} | dict(word.lstrip("+").split("=", 1) for word in words if "=" in word)
    row |= {f"val/{heads[0]}": score_of(report, "val", heads[0])} | {f"test/{name}": score_of(report, "test", name) for name in heads}
    return row | {"trained_parameters": report.get("parameters", {}).get("trainable")}


def _write(rows: list[dict[str, Any]], folder: Path) -> None:
    import pandas as pd
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    frame = pd.DataFrame(rows)
    names = list(rows[0])
    words = [name for name in names if not name.startswith(("val/", "test/")) and name not in ("trial", "trained_parameters")]
    frame = frame.drop(columns=[name for name in words if len(frame) > 1 and frame[name].nunique(dropna=False) == 1])
    by = next(name for name in names if name.startswith("val/"))
    frame = frame.sort_values(by, ascending=False, kind="stable").reset_index(drop=True)
    frame.to_csv(folder / "trials.csv", index=False)
    table = Table(title=f"{len(frame)} trials, ranked by {by}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in frame.columns.astype(str):
        table.add_column(name.rsplit(".", 1)[-1], justify="right")
    for _, row in frame.iterrows():
        table.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row))
    Console().print(table)
    Console().print(f"table: {folder / 'trials.csv'}", soft_wrap=True)
