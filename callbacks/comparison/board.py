"""Leaderboard: runs grouped by test set, ranked by val, each compared on test with the best."""

import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from math import isnan
from typing import Any

from callbacks.comparison.differing import config_diff
from callbacks.comparison.entry import FINISHED, ONE_FOLD, SEVERAL_RUNS, LeaderboardEntry
from callbacks.comparison.known import RunIndex
from callbacks.comparison.paired import paired_difference
from callbacks.comparison.ranking import Ranking, choose_ranking
from callbacks.comparison.verdict import BEST_ON_VAL, significance_label
from lightning_modules.uncertainty import MIN_GROUPS

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
            told = entry.summary
            groups.setdefault(
                (told["judged"], told["kind"], told["identity"], told["grouped"]), []
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
    told = entries[0].summary
    by = choose_ranking(
        [tuple(entry.summary["monitor"]) for entry in entries], told["scores"], told["head"]
    )
    ordered = sorted(
        entries, key=lambda entry: (by.sort_key(_val_score(entry, by)), _timestamp_seconds(entry))
    )
    words = _setting_differences(ordered)
    best = ordered[0] if not isnan(_val_score(ordered[0], by)) else None
    lines = [_ranked_row(entry, by, run_index, best, words[n]) for n, entry in enumerate(ordered)]
    for rank, line in enumerate((line for line in lines if line["val"] is not None), 1):
        line["rank"] = rank
    of_run: dict[str, list[str]] = {}
    for part, whole in parts.items():
        of_run.setdefault(whole, []).append(part)
    for line in lines:
        line["parts"] = of_run.get(line["run"], [])
    return {
        "by": by,
        "out_of_fold": told["judged"] != "test",
        "few": max(entry.summary["test"][by.score]["groups"] for entry in entries) < MIN_GROUPS,
        "chance": FALSE_POSITIVE_RATE * (len(lines) - 1),
        "lines": lines,
        **{
            name: told[name]
            for name in ("kind", "identity", "group_is", "judged_at", "n", "data", "phantom")
        },
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
    told, val = entry.summary, _val_score(entry, ranking)
    draws = run_index.bootstrap_scores(entry, ranking.score)
    test = told["test"][ranking.score]
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
            name: told[name]
            for name in ("n", "phantom", "trained", "parameters", "train_seconds", "commit")
        },
    }
