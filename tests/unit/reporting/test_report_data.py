"""Tests of the page: the cases, the text and the escaping of data."""

import json
from dataclasses import replace

import numpy as np

from evaluation.metrics.segmentation import dice
from reporting.file_io import write_json
from reporting.page import write_page
from reporting.report_data import ReportInput, build_report
from reporting.segmentation import select_cases
from tests.unit.evaluation.metrics.test_segmentation import evidence_of, scene


def test_best_and_worst_are_ranked_among_images_with_a_lesion():
    seen = evidence_of(*scene())
    values = dict(zip(seen.ids, dice(seen.decision(0).pixels), strict=True))
    cases = select_cases(seen, 3)
    by_kind = {
        kind: [case.caption for case in cases if case.kind == kind]
        for kind in ("random", "worst", "best")
    }
    lesions = sorted(values[name] for name in seen.ids[seen.decision(0).positive])
    said = [f"Dice {value:.4f}" for value in lesions]
    assert (
        by_kind["worst"] == said[:3]
        and by_kind["best"] == said[::-1][:3]
        and len(by_kind["random"]) == 3
    )
    assert all(f"Dice {values[case.id]:.4f}" == case.caption for case in cases)


def test_the_page_escapes_what_the_data_says_and_json_is_valid(tmp_path):
    evil = "<script>alert(1)</script>"
    seen = replace(evidence_of(*scene()), classes=(evil,))
    splits = {"test": {"images": 24, "groups": 24, "positive": {evil: 18}}}
    data = {
        "root": evil,
        "phantom": True,
        "group_is": "image",
        "splits": splits,
        "folder_leaks": {},
        "split": "folders",
    }
    copies = {"pairs": 0, "test_images": [], "examples": []}
    data |= {
        "cleaning": {evil: {"count": 1, "examples": [evil]}},
        "leaks": [evil],
        "near_duplicates": copies,
    }
    rule = [{"top": 0.5, "min_area": 0.0, "bottom": 0.5}]
    found = build_report(
        ReportInput(
            evil,
            tmp_path,
            {"test": seen},
            rule,
            {"resources": {"images_per_second": np.float32(3.5)}},
        ),
        data,
    )
    write_json(found, tmp_path / "report.json")
    again = json.loads(
        (tmp_path / "report.json").read_text(),
        parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)),
    )
    assert (
        again["scores"]["test"][evil]["precision"]["trivial"]["all empty"] == 0
        and again["scores"]["test"][evil]["image_specificity"]["low"] is None
        and again["identity"] == seen.identity
    )
    page = write_page(found, {"test": seen}, [], tmp_path).read_text()
    assert evil not in page and "&lt;script&gt;" in page and "Phantom data" in page


def test_images_that_stand_in_train_too_are_scored_apart(tmp_path):
    seen = evidence_of(*scene(images=60))
    copies = {"pairs": 2, "test_images": ["i000", "i001"], "examples": []}
    data = {
        "root": "",
        "phantom": False,
        "group_is": "image",
        "splits": {},
        "cleaning": {},
        "leaks": [],
        "near_duplicates": copies,
    }
    data |= {"folder_leaks": {}, "split": "folders"}
    rule = [{"top": 0.5, "min_area": 0.0, "bottom": 0.5}]
    found = build_report(ReportInput("t", tmp_path, {"test": seen}, rule, {}), data)
    apart = found["scores"]["test_without_lookalikes"]["lesion"]["dice"]
    assert apart["n"] == 58 and np.isclose(apart["value"], dice(seen.decision(0).pixels)[2:].mean())
    page = write_page(found, {"test": seen}, [], tmp_path).read_text()
    assert (
        "2 test images are nearly identical to images of train or val" in page
        and f"{apart['value']:.4f}" in page
    )
