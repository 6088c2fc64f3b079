"""A run as the leaderboard knows it: from its report and evidence, or why it is not ranked."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from callbacks.comparison.finished import EVALUATED_SPLITS, read_report
from callbacks.comparison.run_folders import CONFIG_FILE, WATCHED_FILES
from callbacks.comparison.told import BootstrapScores, summarize_predictions, summarize_report
from callbacks.runs import outcome
from callbacks.runs.written import read_yaml
from datamodules.refusal import UserError
from lightning_modules import evidence_file

FINISHED, ONE_FOLD, SEVERAL_RUNS = (
    "finished",
    "one fold",
    "several runs",
)  # besides: failed, pruned, not tested, not ended, cannot be read
RANKED_TASKS = {"fit", "test"}  # what a run does that is ranked


@dataclass(kw_only=True)
class LeaderboardEntry:
    """One run.

    Attributes:
        run: Its folder below the folder of all runs, with slashes.
        status: `finished` where it can be ranked.
        reason: Why not, in words.
        title: Of its page.
        timestamp: It was finished, or last written to.
        summary: What its report and evidence say, where they were read.
    """

    run: str
    status: str = FINISHED
    reason: str = ""
    title: str = ""
    timestamp: str = ""
    summary: dict[str, Any] = field(default_factory=dict)


def read_entry(folder: Path, runs_dir: Path) -> tuple[LeaderboardEntry | None, BootstrapScores]:
    """Read a run folder; one that cannot be read becomes an entry that says so.

    One bad file must not hide all other runs.

    Args:
        folder: Of the run.
        runs_dir: Of all runs.

    Returns:
        The entry, None where the folder is no run to be ranked, such as a data set's export; and
        the bootstrap replicates of the score that the run monitored.
    """
    entry = LeaderboardEntry(
        run=folder.relative_to(runs_dir).as_posix(), timestamp=_last_modified(folder)
    )
    try:
        return _load_entry(folder, entry)
    except Exception as error:
        said = (
            " ".join(str(error).split())
            if isinstance(error, UserError)
            else f"{type(error).__name__}: {error}"
        )
        entry.status, entry.reason = "cannot be read", said
        return entry, {}


def _load_entry(
    folder: Path, entry: LeaderboardEntry
) -> tuple[LeaderboardEntry | None, BootstrapScores]:
    ended = outcome.read_outcome(folder) or {}
    if _is_multirun_page(folder):
        entry.status, entry.title = (
            SEVERAL_RUNS,
            str(json.loads((folder / "report.json").read_text(encoding="utf-8"))["title"]),
        )
        return entry, {}
    if (folder / "report.json").is_file() and ended.get("status") in (None, FINISHED):
        report = read_report(folder)
        entry.title, entry.timestamp, entry.summary = (
            report["title"],
            report.get("finished", entry.timestamp),
            summarize_report(report),
        )
        if entry.summary["judged"] == "test" and entry.summary["fold"] is not None:
            entry.status = ONE_FOLD
            return entry, {}
        evidence = evidence_file.read_evidence(
            folder / "evidence" / f"{entry.summary['judged']}.npz"
        )
        if not len(evidence):
            raise UserError(
                f"{folder / 'evidence'} holds no image; test the run again with do=[test]"
                f" ckpt_path={folder}"
            )
        more, draws = summarize_predictions(report, evidence)
        entry.summary |= more
        return entry, draws
    config = read_yaml(folder / CONFIG_FILE)
    if not RANKED_TASKS & set(config.get("do", RANKED_TASKS)) or (config.get("trainer") or {}).get(
        "fast_dev_run"
    ):
        return None, {}
    entry.title = str(config.get("title", ""))
    entry.status, entry.reason = _unranked_reason(folder, ended)
    return entry, {}


def _last_modified(folder: Path) -> str:
    """Return the newest modification time of the files in `READ`, in the time of this machine."""
    last = max(
        (path.stat().st_mtime for name in WATCHED_FILES if (path := folder / name).is_file()),
        default=0.0,
    )
    return datetime.fromtimestamp(last).astimezone().isoformat(timespec="seconds")


def _unranked_reason(folder: Path, run_outcome: dict[str, Any]) -> tuple[str, str]:
    status = run_outcome.get("status")
    if status == "pruned":
        best = run_outcome.get("score")
        return "pruned", "stopped early by the sweep" + ("" if best is None else f", at {best:.4f}")
    if status == "failed":
        return "failed", " ".join(str(run_outcome.get("failure") or "no reason was left").split())
    if status == FINISHED:
        return "not tested", "it was trained and not tested; do=[test] ckpt_path=ITS_FOLDER"
    last = (folder / "checkpoints" / "last.ckpt").is_file()
    return "not ended", "it is running, or was cut off" + (
        "; ckpt_path=ITS_FOLDER goes on with it" if last else " before anything was saved"
    )


def _is_multirun_page(folder: Path) -> bool:
    """Return whether the folder is a page over several runs, which keeps no evidence of its own."""
    return not any(
        (folder / name).is_file()
        for name in (CONFIG_FILE, *(f"evidence/{judged}.npz" for judged in EVALUATED_SPLITS))
    )
