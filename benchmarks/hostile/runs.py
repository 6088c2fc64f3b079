"""Hostile run folders beside a good one, which the leaderboard shows with all its scores."""

import csv
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hostile.runner import Action, Case
from benchmarks.hostile.template import Template
from reporting.comparison import compare_runs
from reporting.leaderboard import write_leaderboard
from tests.factories.run_folder import labels, left

KINDS = ("run folders",)
GOOD, ODD = "a/good", "a/odd"
LEADERBOARD_SECONDS = 6.0  # two bootstraps
Change = Callable[[Path], None]


def cases(template: Template) -> Iterator[Case]:
    """Yield all cases of run folders."""
    for name, change in _changes().items():
        yield _leaderboard_case(name, change)
    yield _leaderboard_case("a val score of Infinity", _report(val_of(float("inf"))), best=GOOD)
    yield _leaderboard_case("a val score of -Infinity", _report(val_of(-float("inf"))), best=GOOD)
    yield _leaderboard_case("a val score of NaN", _report(val_of(float("nan"))), best=GOOD)
    yield _leaderboard_case("a val score of 1e400", _val_text("1e400"), best=GOOD)
    for formula in ("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1"):
        yield _csv_case(formula)
    for name, change in list(_changes().items())[::3]:
        yield _compare_case(name, change)


def _write_runs(folder: Path) -> tuple[Path, Path]:
    """Write a good run and another one, which differs by its noise."""
    good = left(folder / "data/runs" / GOOD, labels(), 0.9, title="good")
    odd = left(folder / "data/runs" / ODD, labels(noise=1.0), 0.7, title="odd")
    return good, odd


def _leaderboard_case(name: str, change: Change, best: str | None = None) -> Case:
    def prepare(folder: Path) -> Action:
        _, odd = _write_runs(folder)
        change(odd)
        runs = folder / "board"
        shutil.move(folder / "data/runs", runs)  # the leaderboard is written beside the runs
        return lambda: (write_leaderboard(runs), runs)

    return Case(
        "run folders",
        f"leaderboard: {name}",
        prepare,
        right=lambda made: _shows_good(*made, best),
        may_refuse=False,
        seconds=LEADERBOARD_SECONDS,
    )


def _shows_good(found: dict[str, Any], runs: Path, best: str | None) -> bool:
    """Return True if the good run is ranked, and the other one too, or listed with a reason."""
    ranked = {line["run"]: line for group in found["groups"] for line in group["lines"]}
    rest = {line["run"]: line for line in (*found["rest"], *found["parts"], *found["several"])}
    good = ranked.get(GOOD)
    if good is None or good["rank"] is None or abs(good["val"] - 0.9) > 1e-9:
        return False
    if best is not None and ranked[best]["rank"] != 1:
        return False
    if ODD in rest and not rest[ODD].get("reason") and rest[ODD].get("status") != "running":
        return False
    page = (runs / "leaderboard.html").read_text()
    return GOOD in page and "good" in (runs / "leaderboard.csv").read_text()


def _csv_case(formula: str) -> Case:
    def prepare(folder: Path) -> Action:
        _, odd = _write_runs(folder)
        _report(lambda report: report.update(title=formula, commit=formula))(odd)
        runs = folder / "board"
        shutil.move(folder / "data/runs", runs)
        return lambda: (write_leaderboard(runs), runs)

    def right(made: tuple[Any, Path]) -> bool:
        text = (made[1] / "leaderboard.csv").read_text()
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        numbers = [float(row["val"]) for row in rows]
        cells = [cell for row in rows for cell in row.values() if cell]
        marks = ("=", "+", "-", "@", "\t", "\r")
        return len(numbers) == 2 and not any(
            cell.startswith(marks) and not _is_number(cell) for cell in cells
        )

    return Case(
        "run folders",
        f"CSV: a title {formula!r}",
        prepare,
        right=right,
        may_refuse=False,
        seconds=LEADERBOARD_SECONDS,
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _compare_case(name: str, change: Change) -> Case:
    def prepare(folder: Path) -> Action:
        good, odd = _write_runs(folder)
        change(odd)
        return lambda: compare_runs([str(good), str(odd)], folder / "comparison")

    return Case("run folders", f"compare: {name}", prepare, right=_compares, seconds=15.0)


def _compares(found: dict[str, Any]) -> bool:
    """Return True if both runs have the scores that they have undamaged."""
    rows = {Path(row["runs"][0]).name: row for row in found["variants"]}
    return all(
        abs(rows[Path(run).name]["test"]["f1"] - f1) < 1e-12
        for run, f1 in ((GOOD, 58 / 99), (ODD, 29 / 48))  # by scikit-learn's f1_score
    )


def _report(change: Callable[[dict[str, Any]], Any]) -> Change:
    def write(run: Path) -> None:
        content = json.loads((run / "report.json").read_text())
        change(content)
        (run / "report.json").write_text(json.dumps(content))

    return write


def val_of(value: float) -> Callable[[dict[str, Any]], None]:
    """Return a function that sets all scores on val."""

    def change(report: dict[str, Any]) -> None:
        for scores in report["scores"]["val"].values():
            for score in scores.values():
                score["value"] = value

    return change


def _val_text(text: str) -> Change:
    def write(run: Path) -> None:
        _report(val_of(123.25))(run)
        path = run / "report.json"
        path.write_text(path.read_text().replace("123.25", text))

    return write


def _text(file: str, data: bytes) -> Change:
    return lambda run: (run / file).write_bytes(data) and None


def _odd(file: str, make: Callable[[Path], Any]) -> Change:
    def write(run: Path) -> None:
        (run / file).unlink(missing_ok=True)
        make(run / file)

    return write


def _changes() -> dict[str, Change]:
    """Return name -> function that damages a run folder."""
    made: dict[str, Change] = {}
    wrong: dict[str, Any] = {
        "null": None,
        "a number": 7,
        "text": "abc",
        "a list": [[1]],
        "a mapping": {"a": {"b": 1}},
        "a huge integer": 10**400,
    }
    keys = (
        *("title", "heading", "schema", "kind", "headline_metrics", "evaluated_split", "finished"),
        *("identity", "commit", "scores", "rule", "data", "parameters", "resources", "config"),
        *("folds", "definitions", "units"),
    )
    for key in keys:
        for name, value in wrong.items():
            made[f"{key} is {name}"] = _report(
                lambda report, key=key, value=value: report.update({key: value})
            )
    made |= {
        "finished is no date": _report(lambda report: report.update(finished="yesterday")),
        "finished in the year 99999": _report(
            lambda report: report.update(finished="99999-01-01T00:00:00+00:00")
        ),
        "finished without a zone": _report(
            lambda report: report.update(finished="2026-11-01T10:00:00")
        ),
        "finished in the year 1": _report(
            lambda report: report.update(finished="0001-01-01T00:00:00+14:00")
        ),
        "a monitor of text": _report(lambda report: report["config"].update(monitor="dice")),
        "a monitor of lists": _report(
            lambda report: report["config"].update(monitor={"name": [1], "mode": {}})
        ),
        "config nested 500 deep": _report(lambda report: report.update(config=_deep(500))),
        "a title of 1 MB": _report(lambda report: report.update(title="x" * 10**6)),
        "a title of HTML": _report(lambda report: report.update(title="<script>alert(1)</script>")),
        "a page above the runs": _report(
            lambda report: report.update(folds=[{"page": "../../../etc/passwd"}])
        ),
        "a score of text": _report(
            lambda report: next(iter(report["scores"]["test"].values())).update(f1={"value": "x"})
        ),
        "a score of a list": _report(
            lambda report: next(iter(report["scores"]["val"].values())).update(f1=[1])
        ),
        "no scores on val": _report(lambda report: report["scores"].pop("val")),
        "report.json empty": _text("report.json", b""),
        "report.json cut off": _text("report.json", b'{"title": "t", "sco'),
        "report.json of a list": _text("report.json", b"[1]"),
        "report.json nested deep": _text("report.json", b"[" * 200_000),
        "report.json of bytes": _text("report.json", bytes(range(256))),
        "report.json with an integer of 5,000 digits": _text(
            "report.json", b'{"title": "t", "schema": ' + b"9" * 5000 + b"}"
        ),
        "report.json is a FIFO": _odd("report.json", os.mkfifo),
        "report.json is /dev/zero": _odd("report.json", lambda p: p.symlink_to("/dev/zero")),
        "report.json is a folder": _odd("report.json", Path.mkdir),
        "report.json of 3 GB": lambda run: os.truncate(run / "report.json", 3 * 2**30),
        "config.yaml is a FIFO": _odd("config.yaml", os.mkfifo),
        "config.yaml of a list": _text("config.yaml", b"[1]"),
        "config.yaml with a tag of Python": _text(
            "config.yaml", b"a: !!python/object/apply:os.system ['true']"
        ),
        "outcome.json is a FIFO": _odd("outcome.json", os.mkfifo),
        "outcome.json of text": _text("outcome.json", b"abc"),
        "outcome.json of another status": _text("outcome.json", b'{"status": "great"}'),
        "outcome.json nested deep": _text("outcome.json", b"[" * 100_000),
        "metrics.csv of bytes": _text("metrics.csv", bytes(range(256))),
        "metrics.csv is a FIFO": _odd("metrics.csv", os.mkfifo),
        "evidence empty": _text("evidence/test.npz", b""),
        "evidence of text": _text("evidence/test.npz", b"abc" * 100),
        "evidence cut off": _cut,
        "evidence is a FIFO": _odd("evidence/test.npz", os.mkfifo),
        "evidence is /dev/zero": _odd("evidence/test.npz", lambda p: p.symlink_to("/dev/zero")),
        "evidence of 1 GB of zeros": _evidence_bomb,
        "evidence of a header of 1e12": _evidence(logits=_Huge()),
        "evidence of objects": _evidence(logits=np.array([{"a": 1}], object)),
        "evidence of other lengths": _evidence(ids=np.array(["a"])),
        "evidence of text for numbers": _evidence(logits=np.array([["x"]] * 120)),
        "evidence of NaN": _evidence(logits=np.full((120, 1), np.nan, np.float32)),
        "evidence of another kind": _evidence(kind=np.array("weather")),
        "evidence of version 99": _evidence(version=np.array(99)),
        "evidence of no classes": _evidence(classes=np.array([], str)),
        "evidence of a class of numbers": _evidence(classes=np.array([7])),
        "evidence with a flipped bit": _flip,
    }
    return made


def _deep(depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(depth):
        made = {"a": made}
    return made


class _Huge:
    """Stands for an array whose header says that it has 1e12 values."""


def _cut(run: Path) -> None:
    path = run / "evidence/test.npz"
    os.truncate(path, path.stat().st_size // 2)


def _flip(run: Path) -> None:
    path = run / "evidence/test.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def _evidence(**arrays: Any) -> Change:
    """Return a function that replaces arrays of the evidence."""

    def write(run: Path) -> None:
        path = run / "evidence/test.npz"
        with np.load(path) as file:
            stored = dict(file.items())
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, array in (stored | arrays).items():
                data = io.BytesIO()
                if isinstance(array, _Huge):
                    head = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 1)}
                    np.lib.format.write_array_header_1_0(data, head)
                else:
                    np.save(data, array, allow_pickle=True)
                file.writestr(f"{name}.npy", data.getvalue())

    return write


def _evidence_bomb(run: Path) -> None:
    path = run / "evidence/test.npz"
    with np.load(path) as file:
        stored = dict(file.items())
    rows = 2**30 // 4
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, array in stored.items():
            data = io.BytesIO()
            if name != "logits":
                np.save(data, array)
                file.writestr(f"{name}.npy", data.getvalue())
                continue
            head = {"descr": "<f4", "fortran_order": False, "shape": (rows, 1)}
            np.lib.format.write_array_header_1_0(data, head)
            with file.open(f"{name}.npy", "w", force_zip64=True) as part:
                part.write(data.getvalue())
                for _ in range(2**30 // 2**24):
                    part.write(bytes(2**24))
