"""The page of predictions: which images it shows, and what it says of them."""

import numpy as np

from reporting.prediction_page import (
    PredictedRow,
    PredictionPage,
    choose_images,
    summarize,
    write_prediction_page,
)


def _row(number: int, probability: float, area: int = 0, spacing: float | None = None):
    return PredictedRow(
        id=f"case{number:03d}",
        probability={"lesion": probability},
        positive={"lesion": area > 0},
        area={"lesion": area},
        area_mm2=None if spacing is None else {"lesion": area * spacing},
        components=int(area > 0),
        margin=probability - 0.5,
    )


ROWS = [_row(n, n / 100, (n > 50) * (200 - n), 0.25 if n % 2 else None) for n in range(100)]


def test_images_are_chosen_by_certainty_probability_and_size_and_none_twice():
    found = choose_images(ROWS, 3, is_mask=True)
    names = {why: [row.id for row in rows] for why, rows in found.items()}
    assert names["least certain"] == ["case050", "case049", "case051"]
    assert names["highest probability"] == ["case099", "case098", "case097"]
    assert names["largest masks"] == ["case052", "case053", "case054"]  # 51 is shown already
    every = [name for each in names.values() for name in each]
    assert len(every) == len(set(every)) == 12
    assert choose_images(ROWS, 0, is_mask=True) == {}


def test_counts_and_median_areas_are_those_of_the_images_that_show_the_class():
    shown = [row for row in ROWS if row.positive["lesion"]]
    pixels = np.median([row.area["lesion"] for row in shown])
    physical = np.median([row.area_mm2["lesion"] for row in shown if row.area_mm2])
    assert summarize(ROWS, ["lesion"]) == {
        "lesion": f"49 of 100 images (49.0%); median area {pixels:,.0f} px; {physical:,.0f} mm² in"
        " the 25 images whose pixel spacing is known"
    }
    known = [_row(n, 0.9, 10 + n, 0.5) for n in range(5)]
    assert summarize(known, ["lesion"])["lesion"].endswith("median area 12 px (6 mm²)")


def test_names_from_data_are_escaped_and_missing_files_are_named(tmp_path):
    evil = "</script><img src=x onerror=alert(1)>"
    rows = [PredictedRow(**{**vars(_row(1, 0.7, 30)), "id": evil}), *ROWS]
    page = PredictionPage(
        title=evil,
        heading="h",
        phantom=True,
        facts={"rule": evil},
        classes=["lesion"],
        is_mask=True,
        thresholds={"lesion": 0.5},
        missing={"broken.png": "it is truncated"},
    )
    path = write_prediction_page(page, rows, lambda row: np.zeros((9, 9, 3), np.uint8), 2, tmp_path)
    html = path.read_text()
    assert evil not in html and "it is truncated" in html and "threshold 0.500" in html
    assert "phantom" in html.lower() and "All images, also in predictions.csv" in html
