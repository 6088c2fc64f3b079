"""Cache of what the leaderboard knows of all runs, so that only changed runs are read again.

The file lies beside the runs and may be deleted at any time.
"""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from callbacks.comparison.entry import LeaderboardEntry, read_entry
from callbacks.comparison.run_folders import FileSignature, file_signature, find_run_folders
from callbacks.comparison.told import BootstrapScores, score_with_interval
from datamodules.whole_file import atomic_write
from lightning_modules import evidence_file
from lightning_modules.uncertainty import RESAMPLES

CACHE_VERSION = 1  # to be raised when the values kept of a run change


@dataclass
class CachedRun:
    """One folder.

    Attributes:
        signature: Of its files when they were read.
        entry: None where it is no run to be ranked.
        bootstrap_scores: Score -> its bootstrap replicates.
    """

    signature: FileSignature
    entry: LeaderboardEntry | None
    bootstrap_scores: BootstrapScores = field(default_factory=dict)


class RunIndex:
    """All runs below a folder.

    Args:
        runs_dir: The folder.
        cache_path: The file of the cache.
    """

    def __init__(self, runs_dir: Path, cache_path: Path) -> None:
        self.runs_dir, self.cache_path = runs_dir, cache_path
        before = _load_cache(cache_path)
        self._runs: dict[str, CachedRun] = {}
        self._changed = False
        for folder in find_run_folders(runs_dir):
            run, now = folder.relative_to(runs_dir).as_posix(), file_signature(folder)
            known = before.pop(run, None)
            if known is None or known.signature != now:
                known, self._changed = CachedRun(now, *read_entry(folder, runs_dir)), True
            self._runs[run] = known
        self._changed |= bool(before)  # some are gone

    @property
    def entries(self) -> list[LeaderboardEntry]:
        """The entries of all runs that have one."""
        return [known.entry for known in self._runs.values() if known.entry is not None]

    def bootstrap_scores(self, entry: LeaderboardEntry, score: str) -> np.ndarray:
        """Return a score's bootstrap replicates, from evidence if the run did not monitor it."""
        known = self._runs[entry.run]
        if score not in known.bootstrap_scores:
            evidence = evidence_file.read_evidence(
                self.runs_dir / entry.run / "evidence" / f"{entry.summary['judged']}.npz"
            )
            found, draws = score_with_interval(evidence, score)
            entry.summary["test"] |= found
            known.bootstrap_scores |= draws
            self._changed = True
        return known.bootstrap_scores[score]

    def save(self) -> None:
        """Write the cache if anything has changed."""
        if not self._changed:
            return
        draws = [
            values for known in self._runs.values() for values in known.bootstrap_scores.values()
        ]
        words = [
            [run, known.signature, known.entry and vars(known.entry), list(known.bootstrap_scores)]
            for run, known in self._runs.items()
        ]
        said = json.dumps({"version": CACHE_VERSION, "runs": words}).encode()
        file = io.BytesIO()
        np.savez(
            file,
            words=np.frombuffer(said, np.uint8),
            drawn=np.array(draws).reshape(len(draws), RESAMPLES),
        )
        atomic_write(self.cache_path, file.getvalue())


def _load_cache(path: Path) -> dict[str, CachedRun]:
    """Load the cache; empty if missing, damaged or of another version, so that all is read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            said, drawn = json.loads(file["words"].tobytes()), file["drawn"]
        if said["version"] != CACHE_VERSION or drawn.shape[1] != RESAMPLES:
            return {}
        return _restore_cached_runs(said["runs"], drawn)
    except Exception:  # whatever is wrong with it, it can be made again
        return {}


def _restore_cached_runs(runs: list[Any], score_rows: np.ndarray) -> dict[str, CachedRun]:
    rows = iter(score_rows)
    return {
        run: CachedRun(
            stamp, entry and LeaderboardEntry(**entry), {name: next(rows) for name in names}
        )
        for run, stamp, entry, names in runs
    }
