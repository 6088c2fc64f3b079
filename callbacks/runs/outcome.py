"""outcome.json: whether a run ended well, and with which score; what a sweep and its user look at."""

import json
from pathlib import Path
from typing import Any

NAME = "outcome.json"


def write(run_dir: Path, score: float | None, failure: str | None = None) -> None:
    """Leaves `outcome.json` in a run folder.

    Args:
        run_dir: The run folder.
        score: The monitored score of a fit, where there was one.
        failure: Why the run failed, None where it did not.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    said = {"status": "finished" if failure is None else "failed", "score": score, "failure": failure}
    (run_dir / NAME).write_text(json.dumps(said, indent=2), encoding="utf-8")


def read(run_dir: Path) -> dict[str, Any] | None:
    """What `write` left; None where nothing did."""
    path = run_dir / NAME
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
