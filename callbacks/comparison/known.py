"""Cache of what the leaderboard knows of all runs, so that only changed runs are read again.

The file lies beside the runs and may be deleted at any time.
"""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from callbacks.comparison.entry import Entry, read_entry
from callbacks.comparison.run_folders import Stamp, run_folders, stamp
from callbacks.comparison.told import Drawn, scored
from datamodules.whole_file import write_whole
from lightning_modules import evidence_file
from lightning_modules.uncertainty import RESAMPLES

VERSION = 1  # to be raised when the values kept of a run change


@dataclass
class Known:
    """One folder.

    Attributes:
        stamp: Of its files when they were read.
        entry: None where it is no run to be ranked.
        drawn: Score -> its bootstrap replicates.
    """

    stamp: Stamp
    entry: Entry | None
    drawn: Drawn = field(default_factory=dict)


class KnownRuns:
    """All runs below a folder.

    Args:
        runs: The folder.
        kept: The file of the cache.
    """

    def __init__(self, runs: Path, kept: Path) -> None:
        self.runs, self.kept = runs, kept
        before = _load(kept)
        self._runs: dict[str, Known] = {}
        self._changed = False
        for folder in run_folders(runs):
            run, now = folder.relative_to(runs).as_posix(), stamp(folder)
            known = before.pop(run, None)
            if known is None or known.stamp != now:
                known, self._changed = Known(now, *read_entry(folder, runs)), True
            self._runs[run] = known
        self._changed |= bool(before)  # some are gone

    @property
    def entries(self) -> list[Entry]:
        """The entries of all runs that have one."""
        return [known.entry for known in self._runs.values() if known.entry is not None]

    def drawn(self, entry: Entry, score: str) -> np.ndarray:
        """Return a score's bootstrap replicates, from evidence if the run did not monitor it."""
        known = self._runs[entry.run]
        if score not in known.drawn:
            evidence = evidence_file.read(
                self.runs / entry.run / "evidence" / f"{entry.told['judged']}.npz"
            )
            found, draws = scored(evidence, score)
            entry.told["test"] |= found
            known.drawn |= draws
            self._changed = True
        return known.drawn[score]

    def keep(self) -> None:
        """Write the cache if anything has changed."""
        if not self._changed:
            return
        draws = [values for known in self._runs.values() for values in known.drawn.values()]
        words = [
            [run, known.stamp, known.entry and vars(known.entry), list(known.drawn)]
            for run, known in self._runs.items()
        ]
        said = json.dumps({"version": VERSION, "runs": words}).encode()
        file = io.BytesIO()
        np.savez(
            file,
            words=np.frombuffer(said, np.uint8),
            drawn=np.array(draws).reshape(len(draws), RESAMPLES),
        )
        write_whole(self.kept, file.getvalue())


def _load(path: Path) -> dict[str, Known]:
    """Load the cache; empty if missing, damaged or of another version, so that all is read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            said, drawn = json.loads(file["words"].tobytes()), file["drawn"]
        if said["version"] != VERSION or drawn.shape[1] != RESAMPLES:
            return {}
        return _put_together(said["runs"], drawn)
    except Exception:  # whatever is wrong with it, it can be made again
        return {}


def _put_together(runs: list[Any], drawn: np.ndarray) -> dict[str, Known]:
    rows = iter(drawn)
    return {
        run: Known(stamp, entry and Entry(**entry), {name: next(rows) for name in names})
        for run, stamp, entry, names in runs
    }
