"""Tests of a classification's page: the errors shown, its tables and the escaping of data."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from reporting.classification import select_cases
from reporting.page import write_page
from reporting.report_data import ReportInput, build_report
from reporting.tables import classification_tables, label_confusion
from tests.unit.evaluation.metrics.test_classification import drawn, evidence_of


def test_the_errors_shown_are_the_surest_ones():
    seen = evidence_of(*drawn(ties=False))
    cases = select_cases(seen, 4)
    p, y, says = seen.probability[:, 0], seen.labels[:, 0] > 0, seen.predicted[:, 0]
    by_kind = {
        kind: [case.id for case in cases if case.kind == kind]
        for kind in dict.fromkeys(case.kind for case in cases)
    }
    false_positives = sorted(np.flatnonzero(says & ~y), key=lambda i: -p[i])[:4]
    false_negatives = sorted(np.flatnonzero(~says & y), key=lambda i: p[i])[:4]
    assert by_kind["most confident false positives"] == [seen.ids[i] for i in false_positives]
    assert by_kind["most confident false negatives"] == [seen.ids[i] for i in false_negatives]
    first = next(case for case in cases if case.kind == "most confident false positives")
    assert (
        first.caption == f"p(c0) = {p[false_positives[0]]:.3f}, truth: none"
        and len(by_kind["random"]) == 4
    )


def test_confusion_is_scikit_learn_s():
    seen = evidence_of(*drawn())
    assert (
        label_confusion(seen)[0]["counts"]
        == confusion_matrix(seen.labels[:, 0], seen.predicted[:, 0]).tolist()
    )
    true = np.arange(60) % 3
    several = evidence_of(
        np.random.default_rng(0).normal(size=(60, 3)) + np.eye(3)[true],
        np.eye(3)[true],
        exclusive=True,
    )
    assert (
        label_confusion(several)[0]["counts"]
        == confusion_matrix(true, several.logits.argmax(1)).tolist()
    )


def test_calibration_before_is_without_the_temperature():
    logits, labels = drawn()
    before, after = evidence_of(logits, labels), evidence_of(logits, labels, (0.5, 2.0, 1.0))
    assert "calibration" not in classification_tables({"test": before})
    found = classification_tables({"test": after})["calibration"]["test"]
    p = [1 / (1 + np.exp(-logits[:, 0] / t)) for t in (1, 2)]
    assert found["brier"] == pytest.approx(
        {
            "before": ((p[0] - labels[:, 0]) ** 2).mean(),
            "after": ((p[1] - labels[:, 0]) ** 2).mean(),
        },
        abs=1e-6,
    )


@pytest.mark.parametrize("classes", [1, 3])
def test_the_page_escapes_class_names_and_stands_where_scores_are_undefined(classes, tmp_path):
    evil = "<script>alert(1)</script>"
    logits, labels = drawn(n=30, classes=classes)
    labels[:, 0] = 0  # no positive: recall, AUC and AP of this class are undefined
    seen = replace(evidence_of(logits, labels), classes=tuple(f"{evil}{c}" for c in range(classes)))
    leaks = {"groups": 2, "of_groups": 9, "images": 5, "test_images": 1, "of_test_images": 4}
    splits = {"test": {"images": 30, "groups": 30, "positive": {evil: 3}}}
    copies = {"pairs": 0, "test_images": [], "examples": []}
    data = {
        "phantom": False,
        "group_is": "patient",
        "splits": splits,
        "cleaning": {},
        "leaks": [],
        "near_duplicates": copies,
    }
    rule = [{"threshold": 0.5, "temperature": 1.0}] * classes
    found = build_report(
        ReportInput(evil, tmp_path, {"test": seen}, rule, {}),
        data | {"folder_leaks": leaks, "split": "group"},
    )
    page = write_page(found, {"test": seen}, [], tmp_path).read_text()
    assert (
        evil not in page
        and "2 of 9 patients are in more than one split" in page
        and "1 of 4 test images" in page
    )
