"""Tests of a page with many classes: table layout, short captions, decision rule and cost."""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from callbacks.threshold_search import SegmentationThresholdSearch
from evaluation.evidence import SegmentationEvidence
from evaluation.metrics.segmentation import dice
from reporting.overlays import class_color
from reporting.page import write_page
from reporting.report_data import ReportInput, build_report
from reporting.segmentation import select_cases
from tests.unit.reporting.test_segmentation_report import many


class Tables(HTMLParser):
    """The cells of all tables of a page; `headings` holds its <h2> and <summary> texts in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.headings: list[str] = []
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self._open = tag if tag in ("td", "th", "h2", "summary") else self._open
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag in ("h2", "summary"):
            self.headings.append("")

    def handle_endtag(self, tag):
        self._open = "" if tag in ("td", "th", "h2", "summary") else self._open

    def handle_data(self, data):
        if self._open in ("td", "th"):
            self.rows[-1][-1] += data
        elif self._open:
            self.headings[-1] += data

    def row(self, first: str) -> list[list[str]]:
        """All rows whose first cell says so."""
        return [row for row in self.rows if row[0] == first]


def page_of(folder, seen: SegmentationEvidence, beside=None, rule=None) -> Tables:
    """The page of a run whose val and test are the same."""
    names = seen.classes
    splits = {
        s: {
            "images": 100 + k,
            "groups": 50 + k,
            "positive": {n: 10 * k + c for c, n in enumerate(names)},
        }
        for k, s in enumerate(("train", "val", "test"))
    }
    copies = {"pairs": 0, "test_images": [], "examples": []}
    data = {
        "phantom": True,
        "group_is": "patient",
        "splits": splits,
        "cleaning": {},
        "leaks": [],
        "near_duplicates": copies,
    }
    run = ReportInput(
        "t", folder, {"val": seen, "test": seen}, rule or [{"top": 0.5}] * len(names), beside or {}
    )
    found = build_report(run, data | {"folder_leaks": {}, "split": "folders"})
    return Tables(write_page(found, {"val": seen, "test": seen}, [], folder).read_text())


@pytest.mark.parametrize(("classes", "upright"), [(4, False), (5, True), (13, True)])
def test_the_table_of_the_data_has_a_row_a_class_where_columns_would_not_fit(
    classes, upright, tmp_path
):
    _, _, seen = many(classes, seed=5)
    page = page_of(tmp_path, seen)
    if upright:
        assert all(
            page.row(f"class {c}")[-1] == [f"class {c}", f"{c}", f"{10 + c}", f"{20 + c}"]
            for c in range(classes)
        )
        assert page.row("all images") == [["all images", "100", "101", "102"]]
        assert page.row("groups (patient)") == [["groups (patient)", "50", "51", "52"]]
    else:
        assert page.row("val")[-1] == ["val", "101", "51", *(f"{10 + c}" for c in range(classes))]
    widest = max(
        len(row) for row in page.rows if row[0] in ("train", "split", "images with", "all images")
    )
    assert widest == (4 if upright else 3 + classes)


def test_all_scores_list_the_mean_and_then_the_classes_as_the_data_has_them(tmp_path):
    _, _, seen = many(3, seed=6)
    said = [
        heading
        for heading in page_of(tmp_path, seen).headings
        if heading.startswith("All scores: test")
    ]
    assert said == [
        f"All scores: test · {name}"
        for name in ("mean of classes", "class 0", "class 1", "class 2")
    ]


def test_the_rule_names_what_was_maximized_and_no_score_where_val_shows_no_such_class(tmp_path):
    _, _, seen = many(2, seed=7)
    counts = seen.counts.copy()
    counts[:, 1, 0] += counts[:, 1, 1]
    counts[:, 1, 1] = 0  # val does not show the second class
    search = SegmentationThresholdSearch(lesions_only=True)
    numbers = search.search_rule(replace(seen, counts=counts))
    best = search.found[0]["score"]
    lesion = counts[:, 0, 1].sum(1) > 0
    ruled = replace(seen, counts=counts).with_rule(numbers).decision(0)
    assert (
        best == pytest.approx(dice(ruled.pixels)[lesion].mean())
        and search.found[0]["objective"] == "dice of lesions"
    )
    assert search.found[1] == {
        "objective": "dice of lesions",
        "score": None,
        "at_half": None,
        "warning": "not on val",
    }
    page = page_of(tmp_path, seen, {"search": search.found})
    first, second = (page.row(f"class {c}")[-1][-1] for c in (0, 1))
    assert (
        first.startswith(f"dice of lesions {best:.4f}; ")
        and second == "dice of lesions –; not on val"
    )
    plain = SegmentationThresholdSearch()
    plain.search_rule(replace(seen, counts=counts))
    assert [told["objective"] for told in plain.found] == ["dice", "dice"] and plain.found[1][
        "warning"
    ] == "not on val"


def test_a_caption_names_six_classes_those_that_are_there_first_and_counts_the_others():
    _, _, seen = many(13, seed=8)
    ever = seen.truth[:, :, 1].all(1)  # a scene shows all 13 or none
    keeps = [
        range(12, -1, -1)[:i] if ever[i] else () for i in range(12)
    ]  # image i shows the last i classes
    counts = seen.counts.copy()
    for i, kept in enumerate(keeps):
        gone = [c for c in range(13) if c not in kept]
        counts[i, gone, 0] += counts[i, gone, 1]
        counts[i, gone, 1] = 0
    all_said = np.tile((0.0, 0.0, 0.0), (12, 13, 1))
    cases = {
        case.id: case.chips
        for case in select_cases(replace(seen, counts=counts, rule=all_said), 12)
    }
    rests = set()
    for i, kept in enumerate(keeps):
        *chips, rest = cases[seen.ids[i]]
        order = sorted(kept) + [c for c in range(13) if c not in kept]
        assert [chip.color for chip in chips] == [
            class_color(c) for c in order[:6]
        ] and rest.color == ""
        assert [chip.title.endswith("false alarm") for chip in chips] == [
            c not in kept for c in order[:6]
        ]
        more = len(kept) - 6
        rests.add(rest.title)
        if more > 0:
            assert (
                rest.title
                == f"+{more} true class{'es' if more > 1 else ''}, {13 - len(kept)} false alarms"
            )
        else:
            assert rest.title == "+7 false alarms"
    assert len(rests) == 3
    silent = np.tile((255.0, 1.0, 255.0), (12, 13, 1))  # nothing is said
    for case in select_cases(replace(seen, counts=counts, rule=silent), 12):
        kept = keeps[seen.ids.tolist().index(case.id)]
        assert [chip.title for chip in case.chips[:6]] == [
            f"class {c} missed" for c in sorted(kept)[:6]
        ] and len(case.chips) <= 7


@pytest.mark.parametrize(
    ("processes", "said"),
    [(1, "8 / 8, then 4 / 4"), (6, "8 / 48, then 4 / 24, gradients accumulated over 5 steps")],
)
def test_the_cost_names_processes_devices_and_batches(processes, said, tmp_path):
    _, _, seen = many(2, seed=1)
    several = processes > 1
    ran = {
        "processes": processes,
        "nodes": 2 if several else 1,
        "devices_per_node": 3 if several else 1,
        "names": {"NVIDIA A": 2, "NVIDIA B": 1},
    }
    ran |= {
        "accelerator": "cuda",
        "strategy": "DDP",
        "precision": "bf16-mixed",
        "batch_sizes": [8, 4],
        "accumulated": 5 if several else 1,
    }
    page = page_of(tmp_path, seen, {"devices": ran, "resources": {"images_per_second": 3.0}})
    assert page.row("images per training step, on one device / on all") == [
        ["images per training step, on one device / on all", said]
    ]
    assert page.row("processes")[0][1] == ("6: 2 nodes, 3 devices each" if several else "1")
    assert page.row("accelerator, strategy, precision")[0][1] == "cuda, DDP, bf16-mixed"
    assert page.row(f"devices{' of the first node' * several}")[0][1] == (
        "2 × NVIDIA A, 1 × NVIDIA B" if several else "NVIDIA A, NVIDIA B"
    )
    assert (
        "Memory and utilization are those of the first process"
        in (tmp_path / "report.html").read_text()
    ) is several
