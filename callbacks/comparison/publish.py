"""Keep leaderboard.csv and leaderboard.html in the folder of all runs, one process at a time."""

import csv
import io
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock

from callbacks.comparison.board import build_leaderboard
from callbacks.comparison.known import RunIndex
from callbacks.report.table import format_number
from callbacks.report.template import render
from datamodules.whole_file import atomic_write

LEADERBOARD_NAME = "leaderboard"
CACHE_FOLDER = ".leaderboard"  # beside it: the lock, and what is known of the runs
LOCK_TIMEOUT = 120.0  # seconds that another process may take
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
        known = RunIndex(runs_dir, kept / "known.npz")
        found = build_leaderboard(known)
        atomic_write(runs_dir / f"{LEADERBOARD_NAME}.csv", _leaderboard_csv(found))
        page = render(
            Path(__file__).parent,
            f"{LEADERBOARD_NAME}.html",
            title="Leaderboard",
            phantom=False,
            found=found,
        )
        atomic_write(runs_dir / f"{LEADERBOARD_NAME}.html", page.encode())
        known.save()
    return found


def _leaderboard_csv(leaderboard: dict[str, Any]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, CSV_COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for group in leaderboard["groups"]:
        shared = {
            "status": "finished",
            "images": group["identity"],
            "kind": group["kind"],
            "ranked_by": group["by"].score,
        }
        shared["judged"] = "out of fold" if group["out_of_fold"] else "test"
        writer.writerows(line | shared | _flatten_row(line) for line in group["lines"])
    writer.writerows(
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
    return {
        **test,
        **differences,
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
