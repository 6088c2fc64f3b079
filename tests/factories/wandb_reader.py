"""A reader of W&B's offline run files.

They are a LevelDB log (header, blocks of 32 kB, fragments) of protobuf records.
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

HEADER, BLOCK, FULL, LAST = 7, 32768, 1, 4


@dataclass
class RunFile:
    """What one offline run says."""

    folder: Path
    run: Any = None
    code: int | None = None
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    artifacts: list[Any] = field(default_factory=list)

    def values(self, name: str) -> list[float]:
        """All that was logged under a name."""
        return [row[name] for row in self.history if name in row]

    def table(self, key: str) -> tuple[list[str], list[list[Any]]]:
        """A logged table: columns and rows."""
        path = self.folder / "files" / self.values(f"{key}/path")[-1]
        found = json.loads(path.read_text())
        return found["columns"], found["data"]


def records(path: Path) -> list[Any]:
    """Every complete record of a .wandb file."""
    content, place, whole, found = path.read_bytes(), HEADER, b"", []
    while place + 7 <= len(content):
        left = BLOCK - place % BLOCK
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        if place + 7 + length > len(content):
            break  # its end is still being written
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (FULL, LAST):
            found.append(wandb_internal_pb2.Record.FromString(whole))
            whole = b""
    return found


def read(folder: Path) -> RunFile:
    """One `offline-run-*` folder."""
    (path,) = folder.glob("*.wandb")
    found = RunFile(folder)
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.run = record.run
            found.config |= _items(record.run.config.update)
        elif kind == "config":
            found.config |= _items(record.config.update)
        elif kind == "history":
            found.history.append(_items(record.history.item))
        elif kind == "summary":
            found.summary |= _items(record.summary.update)
        elif kind == "metric":
            found.metrics[record.metric.name or record.metric.glob_name] = record.metric
        elif kind == "artifact":
            found.artifacts.append(record.artifact)
        elif kind == "exit":
            found.code = record.exit.exit_code
    return found


def only(run_dir: Path) -> RunFile:
    """The one offline run below a run folder."""
    (folder,) = (run_dir / "wandb").glob("offline-run-*")
    return ended(folder)


def ended(folder: Path) -> RunFile:
    """One run that has an end."""
    for _ in range(100):  # W&B's own process closes the file a moment after the run has ended
        found = read(folder)
        if found.code is not None:
            return found
        time.sleep(0.1)
    raise TimeoutError(f"{folder} has no end")


def _items(items: Any) -> dict[str, Any]:
    """Nested keys have their steps joined by /, as a name with a slash has."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
