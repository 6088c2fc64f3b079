"""Tests of the short table on a terminal of 80 columns."""

from pathlib import Path

from reporting.tables import print_table


def scored(value: float) -> dict:
    return {
        "value": value,
        "low": 0.4917,
        "high": 0.8660,
        "n": 52,
        "trivial": {"all negative": 0.0, "all positive": 0.747, "prevalence": 0.747},
    }


def test_no_word_or_number_is_cut_short(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    scores = {
        "test": {"PNEUMONIA": {"average_precision": scored(0.7089), "f1": scored(float("nan"))}}
    }
    found = {
        "evaluated_split": "test",
        "scores": scores,
        "title": "a [title]",
        "headline_metrics": ["f1"],
    }
    print_table(
        found
        | {
            "caveat": {"test": "of 24 patients"},
            "data": {"near_duplicates": {"test_images": []}},
        },
        Path("runs/a/report.html"),
    )
    said = capfd.readouterr().out
    assert (
        "…" not in said
        and "a [title] · test · PNEUMONIA" in said
        and said.rstrip().endswith("page: runs/a/report.html")
    )
    head, first, second = (
        line.split()
        for line in said.splitlines()
        if line.split()[:1] in (["score"], ["average_precision"], ["f1"])
    )
    assert head[-3:] == ["negative", "positive", "prevalence"]
    assert (
        first[1:] == ["0.7089", "0.4917", "–", "0.8660", "52", "0.0000", "0.7470", "0.7470"]
        and second[1] == "–"
    )
