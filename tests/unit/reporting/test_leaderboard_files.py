"""Tests of writing leaderboard.csv and leaderboard.html.

Readers always find whole files, the browser never runs anything from the data, and no run fails
because of the leaderboard.
"""

import csv
import multiprocessing
from pathlib import Path

import pandas as pd
import pytest

from engine import runner
from reporting import leaderboard
from reporting.run_index import RunIndex
from tests.conftest import SMALL_LABELS
from tests.factories.run_folder import labels, left

EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"


def test_the_table_holds_every_run_of_each_kind(tmp_path):
    left(tmp_path / "a", labels(40.0), 0.9, seed=1)
    left(tmp_path / "b", labels(skill=2), 0.8, seed=2)
    left(tmp_path / "c", labels(), 0.7, status="failed")
    found = leaderboard.write_leaderboard(tmp_path)
    board = pd.read_csv(tmp_path / "leaderboard.csv", keep_default_na=False).set_index("run")
    assert list(board.index) == ["a", "b", "c"] and board["rank"].tolist() == ["1", "2", ""]
    line = found["groups"][0]["lines"][1]
    for column, key in {
        "difference": "value",
        "difference_low": "low",
        "difference_high": "high",
    }.items():
        assert float(board.loc["b", column]) == line["gap"][key]
    assert board.loc[
        "b",
        [
            "verdict",
            "val",
            "n",
            "differs",
            "phantom",
            "trained_parameters",
            "train_seconds",
            "commit",
        ],
    ].tolist() == [*("better", "0.8", "120", "seed=2", "True", "7", "3.0", "abc+")]
    assert board.loc["c", ["status", "reason"]].tolist() == ["failed", "it broke"]
    page = (tmp_path / "leaderboard.html").read_text()
    assert (
        "better" in page
        and 'href="b/report.html"' in page
        and "never on test" in page
        and "it broke" in page
    )


def test_processes_that_end_at_once_lose_nothing_and_readers_find_whole_files(tmp_path):
    leaderboard.write_leaderboard(tmp_path)
    fork = multiprocessing.get_context("fork")
    ending = [fork.Process(target=_end, args=(tmp_path, number)) for number in range(4)]
    for process in ending:
        process.start()
    lengths = []
    while any(process.is_alive() for process in ending):
        with (tmp_path / "leaderboard.csv").open() as file:
            lengths.append(
                sum(
                    len(row) == len(leaderboard.CSV_COLUMNS) and None not in row.values()
                    for row in csv.DictReader(file)
                )
            )
        assert (tmp_path / "leaderboard.html").read_text().endswith("</html>")
    assert [process.exitcode for process in ending] == [0] * 4
    assert lengths == sorted(lengths)  # no run is ever lost again
    board = pd.read_csv(tmp_path / "leaderboard.csv")
    assert sorted(board["run"]) == [
        f"{number}/{again}" for number in range(4) for again in range(3)
    ]
    kept = RunIndex(tmp_path, tmp_path / ".leaderboard/known.npz")
    assert len(kept.entries) == 12 and not kept._changed
    assert sorted(path.name for path in tmp_path.iterdir() if not path.is_dir()) == [
        "leaderboard.csv",
        "leaderboard.html",
    ]


def _end(runs, number):
    for again in range(3):
        folder = left(
            runs / f"{number}/{again}", labels(number / 10), 0.5 + again / 10, seed=number
        )
        leaderboard.update_leaderboard(runs, folder)


def test_whatever_goes_wrong_is_one_sentence(tmp_path, capsys, monkeypatch):
    run = left(tmp_path / "runs/a", labels(), 0.5)
    monkeypatch.setattr(leaderboard, "build_leaderboard", lambda known: 1 / 0)
    leaderboard.update_leaderboard(tmp_path / "runs", run)
    said = capsys.readouterr()
    why = "(ZeroDivisionError: division by zero)"
    assert (
        said.out == ""
        and said.err
        == f"the leaderboard was not brought up to date {why}; the run itself is whole\n"
    )
    monkeypatch.undo()
    leaderboard.update_leaderboard(tmp_path / "runs", run)
    assert "rank 1 of 1 on these images by val f1 (0.5000), best on val" in capsys.readouterr().out
    leaderboard.update_leaderboard(tmp_path / "runs", left(tmp_path / "elsewhere", labels(), 0.5))
    assert capsys.readouterr() == ("", "") and not (tmp_path / "leaderboard.csv").exists()
    leaderboard.update_leaderboard_after_multirun(
        left(tmp_path / "runs/sweep/0", labels(), 0.6).parent
    )
    assert len(pd.read_csv(tmp_path / "runs/leaderboard.csv")) == 2
    leaderboard.update_leaderboard_after_multirun(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "do, more, there",
    [
        ("[fit,test]", [], True),
        ("[fit]", [], False),
        ("[fit,test]", ["trainer.fast_dev_run=true"], False),
    ],
)
def test_every_run_that_was_tested_comes_on_it(do, more, there, cli, tmp_path, monkeypatch):
    (tmp_path / "data/train").mkdir(parents=True)
    monkeypatch.setattr(
        runner,
        "run_folds",
        lambda cfg, judges, prepared: left(Path(cfg.paths.run), labels(), 0.5) and None,
    )
    code, said = cli(
        *SMALL_LABELS,
        f"do={do}",
        "init_from=null",
        f"datamodule.root={tmp_path / 'data'}",
        *more,
        f"paths.runs={tmp_path}/runs",
        folder=tmp_path / "runs/x/1",
    )
    assert code == 0, said
    assert (tmp_path / "runs/leaderboard.csv").exists() == there


def test_a_browser_sorts_and_filters_and_runs_nothing_from_data(browser, tmp_path):
    name = EVIL.replace("/", "_")
    for number, (run, val) in enumerate((("a b: c", 0.9), (name, 0.95), ("c", 0.5))):
        left(
            tmp_path / run,
            labels(number * 5.0),
            val,
            title=EVIL if number == 1 else "plain",
            seed=number,
        )
        (tmp_path / run / "report.html").write_text(f"page {number}")
    left(tmp_path / "broken", labels(), 0.5, title=EVIL, status="failed")
    leaderboard.write_leaderboard(tmp_path)
    page = browser.new_page(viewport={"width": 390, "height": 800})
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(f"file://{tmp_path}/leaderboard.html")
    assert (
        page.evaluate("document.documentElement.scrollWidth") <= 390
        and page.locator("img").count() == 0
    )
    order = (
        "[...document.querySelector('table.board').tBodies[0].rows].filter(row =>"
        " !row.hidden).map(row => row.cells[0].dataset.by)"
    )
    assert page.evaluate(order) == ["1", "2", "3"]
    head = page.get_by_role("button", name="val f1")
    head.click()
    assert page.evaluate(order) == ["1", "2", "3"]
    head.click()
    assert (
        page.evaluate(order) == ["3", "2", "1"]
        and head.locator("..").get_attribute("aria-sort") == "ascending"
    )
    page.get_by_role("searchbox").fill("plain c")
    assert (
        page.evaluate(order) == ["3", "2"]
        and page.locator("section", has_text="Not ranked").is_hidden()
    )
    page.get_by_role("searchbox").fill("a b:")
    page.locator("table.board a").locator("visible=true").click()
    assert page.locator("body").inner_text() == "page 0" and said == []
    page.close()
