"""What a multirun leaves: one line a trial, ranked by val. Imports nothing heavy, because Hydra loads it before every run."""

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

WORDS = "words"
WIDE = 10_000  # characters, in which any table stands unfolded


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

    from callbacks.comparison.finished import score_of

    report = json.loads((trial / "report.json").read_text(encoding="utf-8"))
    heads = report["heads"][:3]
    row = {f"val/{heads[0]}": score_of(report, "val", heads[0])} | {f"test/{name}": score_of(report, "test", name) for name in heads}
    return {"trial": trial.name} | row | {"trained_parameters": report.get("parameters", {}).get("trainable")}


def swept(folder: Path) -> dict[str, dict[str, str]]:
    """Trial -> key -> value of what differs between the trials of a sweep, those that failed too; nothing of a single trial."""
    import yaml

    each = {path.parents[1].name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/.hydra/overrides.yaml"))}
    words = {name: dict(word.lstrip("+").split("=", 1) for word in said if "=" in word) for name, said in each.items()}
    keys = dict.fromkeys(key for of_trial in words.values() for key in of_trial)
    differ = [key for key in keys if len({of_trial.get(key) for of_trial in words.values()}) > 1]
    return {name: {key: of_trial.get(key, "") for key in differ} for name, of_trial in words.items()}


def _write(rows: list[dict[str, Any]], folder: Path) -> None:
    import pandas as pd
    from rich.console import Console

    words = swept(folder)
    by = next(name for name in rows[0] if name.startswith("val/"))
    rows = [{"trial": row["trial"]} | words.get(row["trial"], {}) | row for row in rows]
    frame = pd.DataFrame(rows).sort_values(by, ascending=False, kind="stable").reset_index(drop=True)
    frame.to_csv(folder / "trials.csv", index=False)
    console, keys = Console(), list(next(iter(words.values()), {}))
    lines = [{str(name): value for name, value in line.items()} for line in frame.to_dict("records")]
    title = f"{len(lines)} trial{'s' * (len(lines) > 1)}, ranked by {by}"
    table = trials_table(title, lines, keys)
    if keys and console.measure(table, options=console.options.update(width=WIDE)).maximum > console.width:
        table = trials_table(title, _folded(lines, keys), [WORDS])
    console.print(table)
    console.print(f"table: {folder / 'trials.csv'}", soft_wrap=True)


def _folded(lines: list[dict[str, Any]], keys: list[str]) -> list[dict[str, Any]]:
    """The words of each trial in one cell, below one another."""
    return [
        {"trial": line["trial"], WORDS: "\n".join(f"{_short(key)}={line[key]}" for key in keys)}
        | {name: value for name, value in line.items() if name not in keys}
        for line in lines
    ]


def trials_table(title: str, lines: list[dict[str, Any]], words: list[str]) -> Any:
    """For the terminal: numbers and their heads keep their width, words are folded where the terminal is narrow."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in lines[0]:
        if name in words:
            table.add_column(_short(name), overflow="fold")
        else:
            table.add_column(name.replace("/", "/\n").replace("_", "_\n"), justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*(f"{value:.4f}" if isinstance(value, float) else escape(str(value)) for value in line.values()))
    return table


def _short(key: str) -> str:
    return key.rsplit(".", 1)[-1]
