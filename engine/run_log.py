"""run.log of a run: what the terminal shows, and the sentence of an error. Imports nothing heavy.

Hydra writes the log records of libraries to the same file.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engine.bug_report import LOG_FILE
from engine.cli import user_message
from engine.run_lock import FolderInUse

CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07")  # colors, moves of the cursor
BAR = "\u2501"  # progress bars are drawn with this line


class _LoggedStream:
    """Stream of a terminal that also writes complete lines to a file.

    Progress bars, and lines that are overwritten, are left out of the file.

    Args:
        name: `stdout` or `stderr`.
        path: The file.
    """

    def __init__(self, name: str, path: Path) -> None:
        self._name, self._stream, self._path = name, getattr(sys, name), path
        self._line, self._closed = "", False

    def write(self, text: str) -> int:
        """Write to the terminal and to the file.

        A log handler that keeps this stream after the run writes to the terminal alone.
        """
        now = getattr(sys, self._name)
        if self._closed:
            return (self._stream if now is self else now).write(text)
        self._line += text
        *lines, self._line = self._line.split("\n")
        kept = [line for line in map(_plain, lines) if line is not None]
        if kept:
            append_log(self._path, "\n".join(kept) + "\n")
        return self._stream.write(text)

    def end_log(self) -> None:
        """Write the rest of a line that has no end yet, and nothing more."""
        self._closed = True
        rest, self._line = _plain(self._line), ""
        if rest:
            append_log(self._path, rest + "\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def append_log(path: Path, text: str) -> None:
    """Append to a log; a run continues if its disk is full."""
    with suppress(OSError), path.open("ab", buffering=0) as file:
        file.write(text.encode("utf-8", errors="replace"))


def _plain(line: str) -> str | None:
    """Return a line without control characters; None if it only draws on the screen."""
    drawn = CONTROL.search(line) is not None or "\r" in line
    text = CONTROL.sub("", line).rsplit("\r", 1)[-1].rstrip()
    return None if BAR in text or (drawn and not text) else text


@contextmanager
def run_log(folder: Path) -> Iterator[None]:
    """Keep what is printed within the context in run.log, and the sentence of an error.

    A nested context, such as that of a run that another one needs, has its own file.

    Args:
        folder: Run folder, which exists.
    """
    path = folder / LOG_FILE
    before = sys.stdout, sys.stderr
    streams: Any = [_LoggedStream(name, path) for name in ("stdout", "stderr")]
    sys.stdout, sys.stderr = streams
    try:
        yield
    except FolderInUse:
        raise  # the file is that of another run
    except Exception as error:
        for stream in streams:
            stream.end_log()
        sentence = user_message(error)
        if sentence is not None:  # a bug's traceback is written by engine/bug_report.py
            append_log(path, f"{sentence[0]}\n")
        raise
    finally:
        for stream in streams:
            stream.end_log()
        sys.stdout, sys.stderr = before
