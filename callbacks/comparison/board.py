"""Leaderboard: runs grouped by test set, ranked by val, each compared on test with the best."""

import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from math import isnan
from typing import Any

from callbacks.comparison.differing import differing
from callbacks.comparison.entry import FINISHED, FOLD, SEVERAL, Entry
from callbacks.comparison.known import KnownRuns
from callbacks.comparison.paired import difference
from callbacks.comparison.ranking import Ranking, ranking
from callbacks.comparison.verdict import BEST, verdict
from lightning_modules.uncertainty import FEWEST_GROUPS

NO_VAL = "no val score"
CHANCE = 0.05  # of comparisons of equal runs, at 95 %, are called better or worse
Group = dict[str, Any]
Line = dict[str, Any]


def board(known: KnownRuns) -> dict[str, Any]:
    """Group and rank all known runs.

    Returns:
        `groups` (the one with the newest run first), `parts` (folds of merged runs), `rest`
        (unranked runs with the reason) and `several` (pages over several runs).
    """
    entries = known.entries
    parts = _parts(entries)
    groups: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        if entry.status == FINISHED:
            told = entry.told
            groups.setdefault(
                (told["judged"], told["kind"], told["identity"], told["grouped"]), []
            ).append(entry)
    latest = sorted(groups.values(), key=lambda alike: max(map(_when, alike)), reverse=True)
    rest = [
        entry
        for entry in entries
        if entry.status not in (FINISHED, SEVERAL) and entry.run not in parts
    ]
    return {
        "groups": [_group(alike, known, parts) for alike in latest],
        "parts": sorted(
            (_part(entry, parts[entry.run]) for entry in entries if entry.run in parts),
            key=lambda line: line["run"],
        ),
        "rest": [_unranked(entry) for entry in sorted(rest, key=_when, reverse=True)],
        "several": sorted(
            (
                {"run": entry.run, "title": entry.title}
                for entry in entries
                if entry.status == SEVERAL
            ),
            key=lambda page: page["run"],
        ),
    }


def _parts(entries: Iterable[Entry]) -> dict[str, str]:
    """Map the run of one fold to the run that it is a part of."""
    return {
        os.path.normpath(f"{entry.run}/{part}"): entry.run
        for entry in entries
        for part in entry.told.get("parts", [])
    }


def _unranked(entry: Entry) -> Line:
    status, reason = entry.status, entry.reason
    if status == FOLD:
        status, reason = (
            f"fold {entry.told['fold']}",
            "one fold alone competes with no whole run; its folds are merged when all are there",
        )
    return {
        "run": entry.run,
        "title": entry.title,
        "status": status,
        "reason": reason,
        "when": entry.when,
    }


def _part(entry: Entry, whole: str) -> Line:
    return _unranked(entry) | {"part_of": whole, "reason": "a part of that run"}


def _group(alike: list[Entry], known: KnownRuns, parts: dict[str, str]) -> Group:
    told = alike[0].told
    by = ranking([tuple(entry.told["monitor"]) for entry in alike], told["scores"], told["head"])
    ordered = sorted(alike, key=lambda entry: (by.place(_val(entry, by)), _when(entry)))
    words = _words(ordered)
    best = ordered[0] if not isnan(_val(ordered[0], by)) else None
    lines = [_line(entry, by, known, best, words[n]) for n, entry in enumerate(ordered)]
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
        "few": max(entry.told["test"][by.score]["groups"] for entry in alike) < FEWEST_GROUPS,
        "chance": CHANCE * (len(lines) - 1),
        "lines": lines,
        **{
            name: told[name]
            for name in ("kind", "identity", "group_is", "judged_at", "n", "data", "phantom")
        },
    }


def _when(entry: Entry) -> float:
    """Return the time in seconds, because runs may come from machines of other time zones."""
    return datetime.fromisoformat(entry.when).timestamp()


def _val(entry: Entry, by: Ranking) -> float:
    return float(entry.told["val"].get(by.score, float("nan")))


def _words(entries: Sequence[Entry]) -> list[list[str]]:
    """Name the settings in which each run differs from others of its title; no seed twice."""
    found: list[list[str]] = [[] for _ in entries]
    for title in dict.fromkeys(entry.title for entry in entries):
        places = [n for n, entry in enumerate(entries) if entry.title == title]
        settings = [entries[n].told["settings"] for n in places]
        for n, own, said in zip(places, settings, differing(settings), strict=True):
            if own.get("seed") == own.get("datamodule.seed"):
                said.pop("datamodule.seed", None)
            found[n] = list(said.values())
    return found


def _line(
    entry: Entry, by: Ranking, known: KnownRuns, best: Entry | None, words: list[str]
) -> Line:
    """Build a run's line; the difference is that of the ranking score."""
    told, val = entry.told, _val(entry, by)
    draws = known.drawn(entry, by.score)
    test = told["test"][by.score]
    gap = None
    if best is not None and entry is not best:
        value = test["value"] - best.told["test"][by.score]["value"]
        gap = difference(known.drawn(best, by.score), draws, value, int(test["groups"]))
    return {
        "rank": None,
        "run": entry.run,
        "title": entry.title,
        "differs": words,
        "val": None if isnan(val) else val,
        "test": {"low": None, "high": None} | test,
        "verdict": NO_VAL if isnan(val) else BEST if gap is None else verdict(gap, by.lower),
        "gap": None if gap is None else vars(gap),
        "when": entry.when,
        **{
            name: told[name]
            for name in ("n", "phantom", "trained", "parameters", "train_seconds", "commit")
        },
    }
