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

from callbacks.dashboard.curves import CurvePanel, report_curves
from callbacks.dashboard.model import log_model_artifact
from callbacks.dashboard.privacy import UploadPolicy
from callbacks.report.cases import Case
from callbacks.report.kinds import TASK_VIEWS
from callbacks.report.report import ReportWriter
from lightning_modules import evidence_file
from lightning_modules.evidence import Evidence

SCORE_COLUMNS = ("split", "class", "score", "value", "low", "high", "n")
MATRIX_COLUMNS = {
    "Actual": "Actual",
    "Predicted": "Predicted",
    "nPredictions": "nPredictions",
}  # fields of W&B's own chart


def log_results(run: Any, folder: Path, upload: UploadPolicy, trainer: Trainer | None) -> None:
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
    run.summary.update(dict(build_summary(found)))
    tables = {"scores": ([*SCORE_COLUMNS, *_baseline_values(found)], list(_table_rows(found)))}
    if upload.ids:
        tables["images"] = _image_table(evidence[found["judged"]])
    panels = {
        f"tables/{name}": _wandb_table(run, f"tables/{name}", *table)
        for name, table in tables.items()
    }
    panels |= {
        f"curves/{key}": _line_chart(run, f"curves/{key}", panel)
        for key, panel in report_curves(evidence).items()
    }
    for number, matrix in enumerate(found.get("confusion", {}).get(found["judged"], [])):
        key = f"confusion/{number}" if number else "confusion/matrix"
        panels[key] = _confusion_chart(run, key, matrix)
    if upload.images:
        panels["cases"] = _case_images(trainer, upload)
    run.log({key: panel for key, panel in panels.items() if panel})
    if upload.model:
        log_model_artifact(run, folder)


def build_summary(found: dict[str, Any]) -> Iterator[tuple[str, float | str]]:
    """Yield the leading split's scores with intervals, the rule, the run's cost and its test set.

    Args:
        found: The content of report.json.
    """
    split, classes = found["judged"], found["scores"][found["judged"]]
    for name, scores in classes.items():
        place = split if len(classes) == 1 else f"{split}/{name}"
        for score, about in scores.items():
            if about["value"] is not None:
                yield from _summary_numbers(
                    f"{place}/{score}",
                    {
                        "": about["value"],
                        "/low": about["low"],
                        "/high": about["high"],
                        "/n": about["n"],
                    },
                )
    for name, rule in found["rule"].items():
        yield from _summary_numbers(
            "rule" if len(found["rule"]) == 1 else f"rule/{name}",
            {f"/{key}": value for key, value in rule.items()},
        )
    for name in ("parameters", "resources"):
        yield from _summary_numbers(
            name, {f"/{key}": value for key, value in found.get(name, {}).items()}
        )
    yield "test_set", found["identity"]  # a hash: runs of another one are not to be compared


def _summary_numbers(place: str, values: dict[str, Any]) -> Iterator[tuple[str, float]]:
    yield from (
        (place + end, value) for end, value in values.items() if isinstance(value, int | float)
    )


def _table_rows(found: dict[str, Any]) -> Iterator[list[Any]]:
    for split, classes in found["scores"].items():
        for name, scores in classes.items():
            for score, value in scores.items():
                yield [
                    split,
                    name,
                    score,
                    *(value[key] for key in ("value", "low", "high", "n")),
                    *map(value["trivial"].get, _baseline_values(found)),
                ]


def _baseline_values(found: dict[str, Any]) -> list[str]:
    """Predictions without skill, by name."""
    scores = next(iter(found["scores"][found["judged"]].values()))
    return list(next(iter(scores.values()))["trivial"])


def _image_table(evidence: Evidence) -> tuple[list[str], list[list[Any]]]:
    """Tabulate each evaluated image: its name, its group and its result."""
    named: dict[str, list[Any]] = {
        "image": evidence.ids.tolist(),
        evidence.group_is + " group": evidence.groups.tolist(),
    }
    for column in TASK_VIEWS[evidence.kind].image_columns(evidence):
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


def _wandb_table(run: Any, key: str, columns: Any, rows: Any) -> Any:
    """Make a table that is bound to the run before it is logged.

    W&B would else stage a copy in the user's home and write that path down.
    """
    import wandb

    table = wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
    table.bind_to_run(run, key, run.step)
    return table


def _line_chart(run: Any, key: str, panel: CurvePanel) -> Any:
    from wandb import plot

    xs, ys = ([line[i].tolist() for line in panel.lines.values()] for i in range(2))
    chart = plot.line_series(
        xs=xs, ys=ys, keys=list(panel.lines), title=panel.title, xname=panel.x_label
    )
    chart.table.bind_to_run(run, f"{key}_table", run.step)
    return chart


def _confusion_chart(run: Any, key: str, matrix: dict[str, Any]) -> Any:
    from wandb import plot

    names, counts = matrix["names"], matrix["counts"]
    rows = [
        [true, said, counts[i][k]] for i, true in enumerate(names) for k, said in enumerate(names)
    ]
    table = _wandb_table(run, f"{key}_table", list(MATRIX_COLUMNS), rows)
    return plot.plot_table(
        "wandb/confusion_matrix/v1",
        table,
        MATRIX_COLUMNS,
        {"title": f"Confusion of {names[-1]}" if len(names) == 2 else "Confusion"},
    )


def _case_images(trainer: Trainer | None, upload: UploadPolicy) -> list[Any]:
    import wandb

    reports = [
        callback
        for callback in (trainer.callbacks if trainer else [])  # type: ignore[attr-defined]
        if isinstance(callback, ReportWriter)
    ]
    cases: list[Case] = [case for report in reports for case in report.pictures]
    return [
        wandb.Image(_decode_pixels(url), caption=_case_caption(case, title, upload))
        for case in cases
        for title, url in case.panes.items()
    ]


def _case_caption(case: Case, pane: str, upload: UploadPolicy) -> str:
    return " · ".join([case.kind, *([case.id] if upload.ids else []), pane])


def _decode_pixels(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
