"""Upload of a run's summary, curves and model to W&B."""

import base64
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from PIL import Image

from callbacks.report_writer import ReportWriter
from datamodules.formats.image_io import IMAGE_FORMATS
from engine.tracking.privacy import UploadPolicy
from evaluation.evidence import (
    ClassificationEvidence,
    Evidence,
    SegmentationEvidence,
)
from evaluation.logit_bins import N_BINS, bin_probability
from evaluation.threshold_sweep import pixel_pr_curve
from lightning_modules import checkpoint_io, training_record
from reporting.cases import Case
from reporting.figures.segmentation import mean_dice_curve
from reporting.run_folder import RunFolder
from reporting.task_view import TASK_VIEWS

MAX_POINTS = 500  # largest number of points of a curve


@dataclass
class CurvePanel:
    """Panel of curves.

    Attributes:
        title: Title of the panel.
        x_label: Name of its x axis.
        lines: Name of a line -> its x and y.
    """

    title: str
    x_label: str
    lines: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def add(self, name: str, x: np.ndarray, y: np.ndarray) -> None:
        """Add a line without its undefined points, thinned to `MAX_POINTS`."""
        some = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        if len(some) > MAX_POINTS:
            some = some[np.linspace(0, len(some) - 1, MAX_POINTS).round().astype(int)]
        if len(some):
            self.lines[name] = (x[some], y[some])


def report_curves(evidence: Mapping[str, Evidence]) -> dict[str, CurvePanel]:
    """Return key -> panel.

    With one class, a panel has a line for each split; with several classes, a line for each class
    on the split that is evaluated last.
    """
    several = len(next(iter(evidence.values())).classes) > 1
    found: dict[str, CurvePanel] = {}
    for split, seen in [list(evidence.items())[-1]] if several else evidence.items():
        for channel, of_class in enumerate(seen.classes):
            _class_curves(found, f"{split} {of_class}" if several else split, seen, channel)
    return {key: panel for key, panel in found.items() if panel.lines}


def _class_curves(found: dict[str, CurvePanel], name: str, seen: Evidence, channel: int) -> None:
    if isinstance(seen, SegmentationEvidence) and not seen.exclusive:
        points, bytes_ = pixel_pr_curve(seen, channel), np.arange(N_BINS)
        _make_panel(found, "dice_by_threshold", "Dice against threshold", "threshold").add(
            name, bin_probability(bytes_), mean_dice_curve(seen, channel, bytes_)
        )
        _make_panel(found, "precision_recall", "Precision and recall of pixels", "recall").add(
            name, points.recall, points.precision
        )
    elif isinstance(seen, ClassificationEvidence):
        from sklearn.metrics import precision_recall_curve, roc_curve

        decided = seen.decision(channel)
        if not 0 < decided.positive.sum() < len(seen):
            return
        false, true, _ = roc_curve(decided.positive, decided.ranking)
        precision, recall, _ = precision_recall_curve(decided.positive, decided.ranking)
        _make_panel(found, "roc", "ROC", "false positive rate").add(name, false, true)
        _make_panel(found, "precision_recall", "Precision and recall", "recall").add(
            name, recall, precision
        )
        if not seen.exclusive:
            thresholds = np.linspace(0, 1, 101)
            message = decided.probability >= thresholds[:, None]
            f1 = (
                2
                * (message & decided.positive).sum(1)
                / np.maximum(1, message.sum(1) + decided.positive.sum())
            )
            _make_panel(found, "f1_by_threshold", "F1 against threshold", "threshold").add(
                name, thresholds, f1
            )


def _make_panel(found: dict[str, CurvePanel], key: str, title: str, across: str) -> CurvePanel:
    return found.setdefault(key, CurvePanel(title, across))


def log_model_artifact(run: Any, folder: Path) -> None:
    """Log `model.ckpt`; do nothing without a best checkpoint.

    `init_from`, and `ckpt_path` of a test, can read the file.

    Args:
        run: The W&B run.
        folder: Run folder.
    """
    import wandb

    best = folder / "checkpoints" / "best.ckpt"
    if not best.is_file():
        return
    path = (
        Path(run.dir).parent / "model.ckpt"
    )  # next to the run's other files, so that an offline run can be sent later
    torch.save(strip_checkpoint(checkpoint_io.read_checkpoint(best)), path)
    artifact = wandb.Artifact(f"model-{run.id}", "model")
    artifact.add_file(os.path.relpath(path), name="model.ckpt", policy="immutable", skip_cache=True)
    run.log_artifact(artifact, aliases=["best"])


def strip_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a checkpoint from which a network can be restored.

    It contains the weights with the rule, the data module's state, and hashes of the training
    images.
    """
    sizes = {name: state for name, state in checkpoint.items() if name.endswith("DataModule")}
    record = (
        {training_record.RECORD_KEY: checkpoint[training_record.RECORD_KEY]}
        if training_record.RECORD_KEY in checkpoint
        else {}
    )
    return {"state_dict": checkpoint["state_dict"]} | record | sizes


SCORE_COLUMNS = ("split", "class", "score", "value", "low", "high", "n")
MATRIX_COLUMNS = {
    "Actual": "Actual",
    "Predicted": "Predicted",
    "nPredictions": "nPredictions",
}  # fields of W&B's chart


def log_results(run: Any, folder: Path, upload: UploadPolicy, trainer: Trainer | None) -> None:
    """Send all results that `upload` allows.

    Args:
        run: The W&B run.
        folder: The run folder, with report.json and evidence.
        upload: What the user allows to leave the machine besides numbers.
        trainer: Trainer whose callbacks hold the images.
    """
    finished = RunFolder(folder)
    found = finished.report
    evidence = {
        split: finished.read_evidence(split)
        for split in found["scores"]  # val, then test
        if finished.has_evidence(split)
    }
    run.summary.update(dict(build_summary(found)))
    tables = {"scores": ([*SCORE_COLUMNS, *_baseline_values(found)], list(_table_rows(found)))}
    if upload.ids:
        tables["images"] = _image_table(evidence[found["evaluated_split"]])
    panels = {
        f"tables/{name}": _wandb_table(run, f"tables/{name}", *table)
        for name, table in tables.items()
    }
    panels |= {
        f"curves/{key}": _line_chart(run, f"curves/{key}", panel)
        for key, panel in report_curves(evidence).items()
    }
    for number, matrix in enumerate(found.get("confusion", {}).get(found["evaluated_split"], [])):
        key = f"confusion/{number}" if number else "confusion/matrix"
        panels[key] = _confusion_chart(run, key, matrix)
    if upload.images:
        panels["cases"] = _case_images(trainer, upload)
    run.log({key: panel for key, panel in panels.items() if panel})
    if upload.model:
        log_model_artifact(run, folder)


def build_summary(found: dict[str, Any]) -> Iterator[tuple[str, float | str]]:
    """Yield the evaluated split's scores with intervals, the rule, the run's cost and its test set.

    Args:
        found: Content of report.json.
    """
    split, classes = found["evaluated_split"], found["scores"][found["evaluated_split"]]
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
    yield "test_set", found["identity"]  # a hash; runs with different hashes cannot be compared


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
    """Return the scores of predictions without skill, by name."""
    scores = next(iter(found["scores"][found["evaluated_split"]].values()))
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

    Otherwise W&B would write a copy into the user's home and store that path.
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

    names, counts = matrix["names"], matrix.get("counts") or matrix["pixels"]
    rows = [
        [true, message, counts[i][k]]
        for i, true in enumerate(names)
        for k, message in enumerate(names)
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
    data = io.BytesIO(base64.b64decode(url.partition(",")[2]))
    return Image.open(data, formats=IMAGE_FORMATS).convert("RGB")
