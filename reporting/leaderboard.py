"""Build leaderboard.html and leaderboard.csv of all runs below a folder."""

import csv
import io
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from math import isnan
from pathlib import Path
from typing import Any

from filelock import FileLock

from datamodules.formats.atomic_write import atomic_write, remove_unfinished
from evaluation.bootstrap import MIN_GROUPS, paired_difference
from reporting.config_diff import config_diff
from reporting.ranking import BEST_ON_VAL, Ranking, choose_ranking, significance_label
from reporting.relative_paths import page_folders
from reporting.rendering import render
from reporting.run_index import FINISHED, ONE_FOLD, SEVERAL_RUNS, LeaderboardEntry, RunIndex
from reporting.tables import format_number, spreadsheet_cell

NO_VAL_SCORE = "no val score"
FALSE_POSITIVE_RATE = 0.05  # of comparisons of equal runs, at 95 %, are called better or worse
LeaderboardGroup = dict[str, Any]
LeaderboardRow = dict[str, Any]


def build_leaderboard(run_index: RunIndex) -> dict[str, Any]:
    """Group and rank all known runs.

    Returns:
        `groups` (the one with the newest run first), `parts` (folds of merged runs), `rest`
        (unranked runs with the reason) and `several` (pages over several runs).
    """
    entries = run_index.entries
    parts = _map_parts_to_runs(entries)
    groups: dict[tuple[Any, ...], list[LeaderboardEntry]] = {}
    for entry in entries:
        if entry.status == FINISHED:
            summary = entry.summary
            groups.setdefault(
                (
                    summary["evaluated_split"],
                    summary["kind"],
                    summary["identity"],
                    summary["grouped"],
                ),
                [],
            ).append(entry)
    latest = sorted(
        groups.values(), key=lambda alike: max(map(_timestamp_seconds, alike)), reverse=True
    )
    rest = [
        entry
        for entry in entries
        if entry.status not in (FINISHED, SEVERAL_RUNS) and entry.run not in parts
    ]
    return {
        "groups": [_build_group(alike, run_index, parts) for alike in latest],
        "parts": sorted(
            (_part_row(entry, parts[entry.run]) for entry in entries if entry.run in parts),
            key=lambda line: line["run"],
        ),
        "rest": [
            _unranked_row(entry) for entry in sorted(rest, key=_timestamp_seconds, reverse=True)
        ],
        "several": sorted(
            (
                {"run": entry.run, "title": entry.title}
                for entry in entries
                if entry.status == SEVERAL_RUNS
            ),
            key=lambda page: page["run"],
        ),
    }


def _map_parts_to_runs(entries: Iterable[LeaderboardEntry]) -> dict[str, str]:
    """Map the run of one fold to the run that it is a part of."""
    return {
        os.path.normpath(f"{entry.run}/{part}"): entry.run
        for entry in entries
        for part in entry.summary.get("parts", [])
    }


def _unranked_row(entry: LeaderboardEntry) -> LeaderboardRow:
    status, reason = entry.status, entry.reason
    if status == ONE_FOLD:
        status, reason = (
            f"fold {entry.summary['fold']}",
            "one fold alone competes with no whole run; its folds are merged when all are there",
        )
    return {
        "run": entry.run,
        "title": entry.title,
        "status": status,
        "reason": reason,
        "when": entry.timestamp,
    }


def _part_row(entry: LeaderboardEntry, merged_run: str) -> LeaderboardRow:
    return _unranked_row(entry) | {"part_of": merged_run, "reason": "a part of that run"}


def _build_group(
    entries: list[LeaderboardEntry], run_index: RunIndex, parts: dict[str, str]
) -> LeaderboardGroup:
    summary = entries[0].summary
    by = choose_ranking(
        [tuple(entry.summary["monitor"]) for entry in entries], summary["scores"], summary["head"]
    )
    ordered = sorted(
        entries, key=lambda entry: (by.sort_key(_val_score(entry, by)), _timestamp_seconds(entry))
    )
    words = _setting_differences(ordered)
    best = ordered[0] if not isnan(_val_score(ordered[0], by)) else None
    measured: dict[str, Any] = {}
    for entry in ordered:
        measured = entry.summary["measured"] | measured  # as the best run that has it defines it
    lines = [
        _ranked_row(entry, by, run_index, best, words[n])
        | {"measured": _comparable_scores(entry.summary["measured"], measured)}
        for n, entry in enumerate(ordered)
    ]
    for rank, line in enumerate((line for line in lines if line["val"] is not None), 1):
        line["rank"] = rank
    of_run: dict[str, list[str]] = {}
    for part, whole in parts.items():
        of_run.setdefault(whole, []).append(part)
    for line in lines:
        line["parts"] = of_run.get(line["run"], [])
    return {
        "by": by,
        "out_of_fold": summary["evaluated_split"] != "test",
        "few": max(entry.summary["test"][by.score]["groups"] for entry in entries) < MIN_GROUPS,
        "chance": FALSE_POSITIVE_RATE * (len(lines) - 1),
        "lines": lines,
        "measured": {name: score["lower_is_better"] for name, score in measured.items()},
        "definitions": summary["definitions"]
        | {name: score["definition"] for name, score in measured.items()},
        "units": summary["units"] | {name: score["unit"] for name, score in measured.items()},
        **{
            name: summary[name]
            for name in (
                "kind",
                "heading",
                "identity",
                "group_is",
                "evaluation_grid",
                "n",
                "phantom",
            )
        },
    }


def _comparable_scores(
    scores: dict[str, Any], definitions: dict[str, Any]
) -> dict[str, dict[str, Any] | None]:
    """Return the scores of a run by name; None where it has none, or one defined in another way."""
    return {
        name: score if score and score["definition"] == expected["definition"] else None
        for name, expected in definitions.items()
        for score in [scores.get(name)]
    }


def _timestamp_seconds(entry: LeaderboardEntry) -> float:
    """Return the time in seconds, because runs may come from machines of other time zones."""
    return datetime.fromisoformat(entry.timestamp).timestamp()


def _val_score(entry: LeaderboardEntry, ranking: Ranking) -> float:
    return float(entry.summary["val"].get(ranking.score, float("nan")))


def _setting_differences(entries: Sequence[LeaderboardEntry]) -> list[list[str]]:
    """Name the settings in which each run differs from others of its title; no seed twice."""
    found: list[list[str]] = [[] for _ in entries]
    for title in dict.fromkeys(entry.title for entry in entries):
        places = [n for n, entry in enumerate(entries) if entry.title == title]
        settings = [entries[n].summary["settings"] for n in places]
        for n, own, said in zip(places, settings, config_diff(settings), strict=True):
            if own.get("seed") == own.get("datamodule.seed"):
                said.pop("datamodule.seed", None)
            found[n] = list(said.values())
    return found


def _ranked_row(
    entry: LeaderboardEntry,
    ranking: Ranking,
    run_index: RunIndex,
    best: LeaderboardEntry | None,
    setting_differences: list[str],
) -> LeaderboardRow:
    """Build a run's line; the difference is that of the ranking score."""
    summary, val = entry.summary, _val_score(entry, ranking)
    draws = run_index.bootstrap_scores(entry, ranking.score)
    test = summary["test"][ranking.score]
    gap = None
    if best is not None and entry is not best:
        value = test["value"] - best.summary["test"][ranking.score]["value"]
        gap = paired_difference(
            run_index.bootstrap_scores(best, ranking.score), draws, value, int(test["groups"])
        )
    return {
        "rank": None,
        "run": entry.run,
        "title": entry.title,
        "differs": setting_differences,
        "val": None if isnan(val) else val,
        "test": {"low": None, "high": None} | test,
        "verdict": NO_VAL_SCORE
        if isnan(val)
        else BEST_ON_VAL
        if gap is None
        else significance_label(gap, ranking.lower_is_better),
        "gap": None if gap is None else vars(gap),
        "when": entry.timestamp,
        **{
            name: summary[name]
            for name in ("n", "phantom", "trained", "parameters", "train_seconds", "commit")
        },
    }


LEADERBOARD_NAME = "leaderboard"
CACHE_FOLDER = ".leaderboard"  # beside it: the lock, and what is known of the runs
LOCK_TIMEOUT = 120.0  # seconds that another process may take
INTERVAL_ENDS = ("_low", "_high")
CSV_COLUMNS = (
    *(
        "status",
        "rank",
        "run",
        "part_of",
        "title",
        "differs",
        "images",
        "kind",
        "evaluated_split",
        "ranked_by",
        "val",
        "test",
        "test_low",
        "test_high",
    ),
    *(
        "verdict",
        "difference",
        "difference_low",
        "difference_high",
        "n",
        "finished",
        "phantom",
        "trained_parameters",
        "parameters",
    ),
    *("train_seconds", "commit", "reason"),
)


def update_leaderboard(runs_dir: Path, run_dir: Path | None = None) -> None:
    """Update the leaderboard and print where it is; an error never fails the run that has ended.

    Args:
        runs_dir: The folder of all runs.
        run_dir: The one that has ended; nothing is done if it lies elsewhere.
    """
    if run_dir is not None and not run_dir.resolve().is_relative_to(runs_dir.resolve()):
        return
    try:
        found = write_leaderboard(runs_dir)
        print(_rank_message(found, runs_dir, run_dir))
    except Exception as error:
        print(
            f"the leaderboard was not brought up to date ({type(error).__name__}: {error}); the run"
            " itself is whole",
            file=sys.stderr,
        )


def update_leaderboard_after_multirun(sweep_dir: Path) -> None:
    """Update the leaderboard once a multirun's runs were merged.

    Does nothing where no folder above the multirun has a leaderboard.

    Args:
        sweep_dir: Of the multirun.
    """
    runs = next(
        (place for place in sweep_dir.resolve().parents if (place / CACHE_FOLDER).is_dir()), None
    )
    if runs is not None:
        update_leaderboard(runs)


def write_leaderboard(runs_dir: Path) -> dict[str, Any]:
    """Read what has changed below the folder of all runs and write both files.

    Args:
        runs_dir: The folder.

    Returns:
        As `board` gives it.
    """
    kept = runs_dir / CACHE_FOLDER
    kept.mkdir(parents=True, exist_ok=True)
    with FileLock(kept / "lock", timeout=LOCK_TIMEOUT):
        remove_unfinished(runs_dir)
        remove_unfinished(kept)
        known = RunIndex(runs_dir, kept / "known.npz")
        found = build_leaderboard(known)
        atomic_write(runs_dir / f"{LEADERBOARD_NAME}.csv", _leaderboard_csv(found))
        page = render(
            "leaderboard.html",
            page_folders(None, runs_dir),
            title="Leaderboard",
            heading=None,
            phantom=False,
            found=found,
        )
        atomic_write(runs_dir / f"{LEADERBOARD_NAME}.html", page.encode())
        known.save()
    return found


def _leaderboard_csv(leaderboard: dict[str, Any]) -> bytes:
    file = io.StringIO(newline="")
    measured = dict.fromkeys(name for group in leaderboard["groups"] for name in group["measured"])
    columns = (*CSV_COLUMNS, *(f"{name}{end}" for name in measured for end in ("", *INTERVAL_ENDS)))
    writer = csv.DictWriter(file, columns, extrasaction="ignore")
    writer.writeheader()

    def write(rows: Iterable[dict[str, Any]]) -> None:
        """Write rows whose texts no spreadsheet runs."""
        writer.writerows({name: spreadsheet_cell(cell) for name, cell in r.items()} for r in rows)

    for group in leaderboard["groups"]:
        shared = {
            "status": "finished",
            "images": group["identity"],
            "kind": group["kind"],
            "ranked_by": group["by"].score,
        }
        shared["evaluated_split"] = "out of fold" if group["out_of_fold"] else "test"
        write(line | shared | _flatten_row(line) for line in group["lines"])
    write(
        line | {"finished": line["when"]} for line in (*leaderboard["parts"], *leaderboard["rest"])
    )
    return file.getvalue().encode()


def _flatten_row(row: dict[str, Any]) -> dict[str, Any]:
    """Flatten a line's nested values into columns of their own."""
    gap = row["gap"] or {}
    test = {
        "test": row["test"]["value"],
        "test_low": row["test"]["low"],
        "test_high": row["test"]["high"],
    }
    differences = {
        "difference": gap.get("value"),
        "difference_low": gap.get("low"),
        "difference_high": gap.get("high"),
    }
    measured = {
        f"{name}{end}": score[key]
        for name, score in row["measured"].items()
        if score
        for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))
    }
    return {
        **test,
        **differences,
        **measured,
        "differs": ", ".join(row["differs"]),
        "finished": row["when"],
        "trained_parameters": row["trained"],
    }


def _rank_message(leaderboard: dict[str, Any], runs_dir: Path, run_dir: Path | None) -> str:
    page = f"leaderboard: {runs_dir / f'{LEADERBOARD_NAME}.html'}"
    for group in leaderboard["groups"]:
        ranked = [line for line in group["lines"] if line["rank"] is not None]
        for line in ranked:
            if run_dir is not None and (runs_dir / line["run"]).resolve() == run_dir.resolve():
                place = (
                    f"rank {line['rank']} of {len(ranked)} on these images by val"
                    f" {group['by'].score} ({format_number(line['val'])})"
                )
                return f"{page}; {place}, {line['verdict']}"
    return page
