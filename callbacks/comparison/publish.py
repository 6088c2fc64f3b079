"""Keep leaderboard.csv and leaderboard.html in the folder of all runs, one process at a time."""

import csv
import io
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock

from callbacks.comparison.board import board
from callbacks.comparison.known import KnownRuns
from callbacks.report.table import number
from callbacks.report.template import render
from datamodules.whole_file import write_whole

NAME = "leaderboard"
KEPT = ".leaderboard"  # beside it: the lock, and what is known of the runs
PATIENCE = 120.0  # seconds that another process may take
COLUMNS = (
    *(
        "status",
        "rank",
        "run",
        "part_of",
        "title",
        "differs",
        "images",
        "kind",
        "judged",
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


def after_run(runs: Path, run: Path | None = None) -> None:
    """Update the leaderboard and print where it is; an error never fails the run that has ended.

    Args:
        runs: The folder of all runs.
        run: The one that has ended; nothing is done if it lies elsewhere.
    """
    if run is not None and not run.resolve().is_relative_to(runs.resolve()):
        return
    try:
        found = publish(runs)
        print(_said(found, runs, run))
    except Exception as error:
        print(
            f"the leaderboard was not brought up to date ({type(error).__name__}: {error}); the run"
            " itself is whole",
            file=sys.stderr,
        )


def after_multirun(folder: Path) -> None:
    """Update the leaderboard once a multirun's runs were merged.

    Does nothing where no folder above the multirun has a leaderboard.

    Args:
        folder: Of the multirun.
    """
    runs = next((place for place in folder.resolve().parents if (place / KEPT).is_dir()), None)
    if runs is not None:
        after_run(runs)


def publish(runs: Path) -> dict[str, Any]:
    """Read what has changed below the folder of all runs and write both files.

    Args:
        runs: The folder.

    Returns:
        As `board` gives it.
    """
    kept = runs / KEPT
    kept.mkdir(parents=True, exist_ok=True)
    with FileLock(kept / "lock", timeout=PATIENCE):
        known = KnownRuns(runs, kept / "known.npz")
        found = board(known)
        write_whole(runs / f"{NAME}.csv", _csv(found))
        page = render(
            Path(__file__).parent, f"{NAME}.html", title="Leaderboard", phantom=False, found=found
        )
        write_whole(runs / f"{NAME}.html", page.encode())
        known.keep()
    return found


def _csv(found: dict[str, Any]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for group in found["groups"]:
        shared = {
            "status": "finished",
            "images": group["identity"],
            "kind": group["kind"],
            "ranked_by": group["by"].score,
        }
        shared["judged"] = "out of fold" if group["out_of_fold"] else "test"
        writer.writerows(line | shared | _flat(line) for line in group["lines"])
    writer.writerows(
        line | {"finished": line["when"]} for line in (*found["parts"], *found["rest"])
    )
    return file.getvalue().encode()


def _flat(line: dict[str, Any]) -> dict[str, Any]:
    """Flatten a line's nested values into columns of their own."""
    gap = line["gap"] or {}
    test = {
        "test": line["test"]["value"],
        "test_low": line["test"]["low"],
        "test_high": line["test"]["high"],
    }
    differences = {
        "difference": gap.get("value"),
        "difference_low": gap.get("low"),
        "difference_high": gap.get("high"),
    }
    return {
        **test,
        **differences,
        "differs": ", ".join(line["differs"]),
        "finished": line["when"],
        "trained_parameters": line["trained"],
    }


def _said(found: dict[str, Any], runs: Path, run: Path | None) -> str:
    page = f"leaderboard: {runs / f'{NAME}.html'}"
    for group in found["groups"]:
        ranked = [line for line in group["lines"] if line["rank"] is not None]
        for line in ranked:
            if run is not None and (runs / line["run"]).resolve() == run.resolve():
                place = (
                    f"rank {line['rank']} of {len(ranked)} on these images by val"
                    f" {group['by'].score} ({number(line['val'])})"
                )
                return f"{page}; {place}, {line['verdict']}"
    return page
