"""Send a tested run to W&B: scores, intervals and rule as summary, curves and confusion as panels.

Pictures, image names and weights are sent only by their own keys.
"""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning import Trainer
from PIL import Image

from callbacks.dashboard.curves import Curves, curves
from callbacks.dashboard.model import send_model
from callbacks.dashboard.privacy import Upload
from callbacks.report.cases import Case
from callbacks.report.kinds import KINDS
from callbacks.report.report import Report
from lightning_modules import evidence_file
from lightning_modules.evidence import Evidence

SCORED = ("split", "class", "score", "value", "low", "high", "n")
MATRIX = {
    "Actual": "Actual",
    "Predicted": "Predicted",
    "nPredictions": "nPredictions",
}  # fields of W&B's own chart


def send(run: Any, folder: Path, upload: Upload, trainer: Trainer | None) -> None:
    """Send all results that `upload` allows.

    Args:
        run: Of W&B.
        folder: The run folder, with report.json and evidence.
        upload: What the user allows besides numbers.
        trainer: Whose callbacks hold the pictures.
    """
    found = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    stored = {
        split: folder / "evidence" / f"{split}.npz" for split in found["scores"]
    }  # val, then test
    evidence = {
        split: evidence_file.read_evidence(path) for split, path in stored.items() if path.is_file()
    }
    run.summary.update(dict(summary(found)))
    tables = {"scores": ([*SCORED, *_trivial(found)], list(_rows(found)))}
    if upload.ids:
        tables["images"] = _images(evidence[found["judged"]])
    panels = {
        f"tables/{name}": _table(run, f"tables/{name}", *table) for name, table in tables.items()
    }
    panels |= {
        f"curves/{key}": _lines(run, f"curves/{key}", panel)
        for key, panel in curves(evidence).items()
    }
    for number, matrix in enumerate(found.get("confusion", {}).get(found["judged"], [])):
        key = f"confusion/{number}" if number else "confusion/matrix"
        panels[key] = _confusion(run, key, matrix)
    if upload.images:
        panels["cases"] = _pictures(trainer, upload)
    run.log({key: panel for key, panel in panels.items() if panel})
    if upload.model:
        send_model(run, folder)


def summary(found: dict[str, Any]) -> Iterator[tuple[str, float | str]]:
    """Yield the leading split's scores with intervals, the rule, the run's cost and its test set.

    Args:
        found: The content of report.json.
    """
    split, classes = found["judged"], found["scores"][found["judged"]]
    for name, scores in classes.items():
        place = split if len(classes) == 1 else f"{split}/{name}"
        for score, about in scores.items():
            if about["value"] is not None:
                yield from _numbers(
                    f"{place}/{score}",
                    {
                        "": about["value"],
                        "/low": about["low"],
                        "/high": about["high"],
                        "/n": about["n"],
                    },
                )
    for name, rule in found["rule"].items():
        yield from _numbers(
            "rule" if len(found["rule"]) == 1 else f"rule/{name}",
            {f"/{key}": value for key, value in rule.items()},
        )
    for name in ("parameters", "resources"):
        yield from _numbers(name, {f"/{key}": value for key, value in found.get(name, {}).items()})
    yield "test_set", found["identity"]  # a hash: runs of another one are not to be compared


def _numbers(place: str, values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    yield from (
        (place + end, value) for end, value in values.items() if isinstance(value, int | float)
    )


def _rows(found: dict[str, Any]) -> Iterator[list[Any]]:
    for split, classes in found["scores"].items():
        for name, scores in classes.items():
            for score, value in scores.items():
                yield [
                    split,
                    name,
                    score,
                    *(value[key] for key in ("value", "low", "high", "n")),
                    *map(value["trivial"].get, _trivial(found)),
                ]


def _trivial(found: dict[str, Any]) -> list[str]:
    """Predictions without skill, by name."""
    scores = next(iter(found["scores"][found["judged"]].values()))
    return list(next(iter(scores.values()))["trivial"])


def _images(evidence: Evidence) -> tuple[list[str], list[list[Any]]]:
    """Tabulate each evaluated image: its name, its group and its result."""
    named: dict[str, list[Any]] = {
        "image": evidence.ids.tolist(),
        evidence.group_is + " group": evidence.groups.tolist(),
    }
    for column in KINDS[evidence.kind].columns(evidence):
        of_classes = (
            dict(zip(evidence.classes, column["of"], strict=True))
            if "of" in column
            else {"": column["values"]}
        )
        named |= {
            f"{column['title']} {name}".strip() if len(of_classes) > 1 else column["title"]: values
            for name, values in of_classes.items()
        }
    return list(named), [list(row) for row in zip(*named.values(), strict=True)]


def _table(run: Any, key: str, columns: Any, rows: Any) -> Any:
    """Make a table that is bound to the run before it is logged.

    W&B would else stage a copy in the user's home and write that path down.
    """
    import wandb

    table = wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
    table.bind_to_run(run, key, run.step)
    return table


def _lines(run: Any, key: str, panel: Curves) -> Any:
    from wandb import plot

    xs, ys = ([line[i].tolist() for line in panel.lines.values()] for i in range(2))
    chart = plot.line_series(
        xs=xs, ys=ys, keys=list(panel.lines), title=panel.title, xname=panel.across
    )
    chart.table.bind_to_run(run, f"{key}_table", run.step)
    return chart


def _confusion(run: Any, key: str, matrix: dict[str, Any]) -> Any:
    from wandb import plot

    names, counts = matrix["names"], matrix["counts"]
    rows = [
        [true, said, counts[i][k]] for i, true in enumerate(names) for k, said in enumerate(names)
    ]
    table = _table(run, f"{key}_table", list(MATRIX), rows)
    return plot.plot_table(
        "wandb/confusion_matrix/v1",
        table,
        MATRIX,
        {"title": f"Confusion of {names[-1]}" if len(names) == 2 else "Confusion"},
    )


def _pictures(trainer: Trainer | None, upload: Upload) -> list[Any]:
    import wandb

    reports = [
        callback
        for callback in (trainer.callbacks if trainer else [])  # type: ignore[attr-defined]
        if isinstance(callback, Report)
    ]
    cases: list[Case] = [case for report in reports for case in report.pictures]
    return [
        wandb.Image(_pixels(url), caption=_caption(case, title, upload))
        for case in cases
        for title, url in case.panes.items()
    ]


def _caption(case: Case, pane: str, upload: Upload) -> str:
    return " · ".join([case.kind, *([case.id] if upload.ids else []), pane])


def _pixels(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
