"""Pages of synthetic runs, with pictures and maps, built without a network."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from callbacks.threshold_search import SegmentationThresholdSearch
from datamodules.loading.letterbox import ContentBox
from evaluation.evidence import ClassificationEvidence, Evidence, SegmentationEvidence
from evaluation.rule_modules import SegmentationRule
from reporting.case_images import render_case
from reporting.cases import data_url
from reporting.page import write_page
from reporting.report_data import ReportInput, build_report
from reporting.task_view import TASK_VIEWS
from tests.factories.exclusive_masks import batch_of, collect
from tests.factories.exclusive_masks import make_module as make_exclusive_module
from tests.factories.exclusive_masks import scene as exclusive_scene
from tests.unit.evaluation.metrics.test_classification import drawn
from tests.unit.evaluation.metrics.test_classification import evidence_of as labels_of
from tests.unit.reporting.test_segmentation_report import many

EVIL = "</script><img src=x onerror=alert(1)>"
COPIES = {"pairs": 0, "test_images": [], "examples": []}
DATA = {"phantom": True, "group_is": "patient", "splits": {}, "cleaning": {}, "leaks": []}
DATA |= {"near_duplicates": COPIES, "folder_leaks": {}, "split": "group"}


@dataclass(frozen=True)
class Page:
    """A page and what it was made of."""

    path: Path
    seen: Evidence
    logits: np.ndarray
    truth: np.ndarray


def masks(
    folder: Path,
    classes: int = 1,
    rule: tuple[float, float, float] = (132.0, 0.01, 124.0),
    images: int = 24,
    folds: bool = False,
) -> Page:
    """Build the page of a segmentation of 32 x 32 pixel images.

    With `folds`, every second image has another decision rule and no cases are shown.
    """
    logits, truth, seen = many(classes, seed=11, images=images)
    rules = np.tile(rule, (images, classes, 1))
    if folds:
        rules[::2] = (140.0, 0.0, 140.0)
    names = (
        tuple(f"{EVIL}{c}" if c == 0 else f"class {c}" for c in range(classes))
        if classes > 1
        else ("lesion",)
    )
    ids = np.array([f"{EVIL}{i}" if i == 0 else f"image {i}" for i in range(images)])
    seen = replace(
        seen,
        rule=rules,
        ids=ids,
        groups=np.array([f"p{min(i, 22)}" for i in range(images)]),
        classes=names,
        group_is="patient",
    )
    module = SegmentationRule(classes)
    module.values = torch.tensor([rule] * classes, dtype=torch.float64)
    gray = (100 + 20 * logits[:, :1]).clamp(0, 255).byte()
    batch, kind, cases = (
        {"image": gray, "mask": truth, "content": [ContentBox(0, 0, 32, 32)] * images},
        TASK_VIEWS["mask"],
        [],
    )
    for case in [] if folds else kind.select_cases(seen, 3):
        i = ids.tolist().index(case.id)
        cases.append(render_case(case, kind, batch, i, logits[i : i + 1], module, side=32))
    evaluated_split = "out_of_fold" if folds else "test"
    return Page(
        _page(folder, seen, cases, [] if folds else module.as_dict(), evaluated_split),
        seen,
        logits.numpy(),
        truth.numpy(),
    )


def exclusive_masks(folder: Path, images: int = 24) -> Page:
    """Build the page of a segmentation of three exclusive classes, with ignored pixels."""
    logits, truth, ignored = exclusive_scene(12, images=images, size=(32, 32), ignored=0.1)
    module = make_exclusive_module()
    module.update_predictions(logits, batch_of(truth, ignored), "val")
    seen = collect(module)
    search = SegmentationThresholdSearch()
    search.search_rule(seen)
    gray = (100 + 20 * logits[:, :1]).clamp(0, 255).byte()
    batch = {"image": gray, "mask": truth, "ignored": ignored}
    batch["content"] = [ContentBox(0, 0, 32, 32)] * images
    kind = TASK_VIEWS["mask"]
    cases = []
    for case in kind.select_cases(seen, 3):
        i = seen.ids.tolist().index(case.id)
        cases.append(render_case(case, kind, batch, i, logits[i : i + 1], module.rule, side=32))
    extras = {"search": search.found}
    return Page(
        _page(folder, seen, cases, module.rule.as_dict(), "test", extras),
        seen,
        logits.numpy(),
        truth.numpy(),
    )


def labels(folder: Path, classes: int = 1, exclusive: bool = False) -> Page:
    """A classification of 60 images."""
    logits, truth = drawn(60, classes)
    if exclusive:
        truth = np.eye(classes, dtype=np.uint8)[np.arange(60) % classes]
    seen = labels_of(
        logits,
        truth,
        (0.37, 1.4, 1.0),
        groups=[f"p{i // 2}" for i in range(60)],
        exclusive=exclusive,
    )
    seen = replace(seen, group_is="patient")
    pane = data_url(np.full((16, 16, 3), 90, np.uint8))
    cases = [
        replace(case, panes={"image": pane}) for case in TASK_VIEWS["label"].select_cases(seen, 3)
    ]
    return Page(
        _page(folder, seen, cases, [{"threshold": 0.37}] * classes, "test"), seen, logits, truth
    )


def _page(
    folder: Path,
    seen: SegmentationEvidence | ClassificationEvidence,
    cases: list,
    rule: list,
    evaluated_split: str,
    extras: dict[str, Any] | None = None,
) -> Path:
    folder.mkdir(parents=True)
    found = build_report(
        ReportInput(
            EVIL,
            folder,
            {evaluated_split: seen},
            rule,
            extras or {},
            evaluated_split=evaluated_split,
        ),
        DATA,
    )
    return write_page(found, {evaluated_split: seen}, cases, folder)


def slide(tab: Any, byte: int) -> None:
    """Moves the slider of an open page."""
    tab.locator("#byte").evaluate(
        "(e, byte) => { e.value = byte; e.dispatchEvent(new Event('input')) }", byte
    )
