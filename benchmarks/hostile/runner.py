"""Runs hostile inputs in processes of their own, and says how each of them ended.

A case writes its files into an empty folder and returns the function that a user would cause to be
called. Files are written in one process, and that function runs in a fork of it, so that the time
and the growth of memory are those of the project alone.
"""

import contextlib
import os
import pickle
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMEOUT = 30.0  # seconds after which a case counts as a hang
MAX_SECONDS = 2.0  # of the processor, so that other processes on the machine do not count
MAX_GROWTH = 2**30  # bytes
ADDRESS_SPACE = 6 * 2**30  # bytes above what is mapped already; spares the machine a bomb
MAX_SENTENCE = 1500  # characters; a message that quotes a whole file is no sentence
STATM = Path("/proc/self/statm")  # memory of this process in pages
BAD = ("traceback", "hang", "memory", "wrong", "bad sentence", "changed", "slow")
ENDS = ("sentence", "right", *BAD)

Action = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One hostile input.

    Attributes:
        kind: Its kind, one row of the table.
        name: What is hostile about it.
        prepare: Function that writes the input into a folder, and returns the user's call.
        names: Texts that the sentence must have: the file, or the key. Without any, it must have
            the name of one of the case's files.
        right: Function that returns True if the result has the right values; None if only a
            sentence will do.
        may_refuse: True if a sentence is accepted beside the right values.
        seconds: Limit of its time if its values are right, for cases that evaluate a whole run.
    """

    kind: str
    name: str
    prepare: Callable[[Path], Action]
    names: Sequence[str] = ()
    right: Callable[[Any], bool] | None = None
    may_refuse: bool = True
    seconds: float = MAX_SECONDS


@dataclass
class Result:
    """How a case ended.

    Attributes:
        end: One of ENDS.
        text: Sentence, or the end of the traceback.
        seconds: Seconds of the processor that the user's call took.
        growth: Growth of the resident memory, in bytes.
    """

    kind: str
    name: str
    end: str
    text: str = ""
    seconds: float = 0.0
    growth: int = 0


@dataclass
class Table:
    """All results, and their counts by kind."""

    results: list[Result] = field(default_factory=list)

    @property
    def bad(self) -> list[Result]:
        """The cases that did not hold."""
        return [result for result in self.results if result.end in BAD]

    def lines(self) -> Iterator[str]:
        """Yield the table as text."""
        yield f"{'kind':<14}{'cases':>6}" + "".join(f"{end:>14}" for end in ENDS)
        for kind in dict.fromkeys(result.kind for result in self.results):
            own = Counter(result.end for result in self.results if result.kind == kind)
            yield f"{kind:<14}{own.total():>6}" + "".join(f"{own[end]:>14}" for end in ENDS)
        every = Counter(result.end for result in self.results)
        yield f"{'all':<14}{every.total():>6}" + "".join(f"{every[end]:>14}" for end in ENDS)
        slowest = max(self.results, key=lambda result: result.seconds, default=None)
        largest = max(self.results, key=lambda result: result.growth, default=None)
        if slowest and largest:
            yield (
                f"slowest: {slowest.seconds:.2f} s ({slowest.kind}: {slowest.name}); most memory:"
                f" {largest.growth / 2**20:.0f} MB ({largest.kind}: {largest.name})"
            )


def run_cases(
    cases: Sequence[Case],
    folder: Path,
    workers: int = 2,
    report: Callable[[Result], None] = lambda result: None,
) -> Table:
    """Run all cases, and those that were too slow once more, alone.

    Args:
        cases: The cases.
        folder: Empty folder for their files.
        workers: Number of processes.
        report: Function that is called with each result.
    """
    found = {}
    for n, result in _run_all(cases, range(len(cases)), folder, workers):
        found[n] = result
        report(result)
    slow = [n for n, result in found.items() if result.end == "slow"]
    found |= dict(_run_all(cases, slow, folder, 1))  # a busy machine is not the project's fault
    return Table([found[n] for n in sorted(found)])


def _run_all(
    cases: Sequence[Case], numbers: Sequence[int], folder: Path, workers: int
) -> Iterator[tuple[int, Result]]:
    """Yield the results of some cases, which processes take in turn."""
    pipes, processes = [], []
    for worker in range(min(workers, len(numbers))):
        reading, writing = os.pipe()
        processes.append(os.fork())
        if processes[-1] == 0:
            os.close(reading)
            with os.fdopen(writing, "wb") as out:
                for n in numbers[worker::workers]:
                    result = run_case(cases[n], folder / f"{n}")
                    pickle.dump((n, result), out)
                    out.flush()
            os._exit(0)
        os.close(writing)
        pipes.append(os.fdopen(reading, "rb"))
    while pipes:
        for pipe in select.select(pipes, [], [])[0]:
            try:
                yield pickle.load(pipe)
            except EOFError:
                pipes.remove(pipe)
                pipe.close()
    for process in processes:
        os.waitpid(process, 0)


def run_case(case: Case, folder: Path) -> Result:
    """Run one case in processes of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.close(reading)
        _prepare_and_act(case, folder, writing)
        os._exit(0)
    os.close(writing)
    with contextlib.suppress(OSError):  # the child may have done it
        os.setpgid(child, child)
    answer = _read_until(reading, 3 * TIMEOUT)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    shutil.rmtree(folder, ignore_errors=True)
    if not answer:
        return Result(case.kind, case.name, "hang", "its files could not be written")
    return pickle.loads(answer)


def _read_until(descriptor: int, seconds: float) -> bytes:
    """Return all bytes of a pipe; empty if its writer takes longer."""
    end, data = time.monotonic() + seconds, b""
    with os.fdopen(descriptor, "rb", buffering=0) as pipe:
        while (left := end - time.monotonic()) > 0:
            if select.select([pipe], [], [], left)[0]:
                part = pipe.read(1 << 16)
                if not part:
                    return data
                data += part
    return b""


def _prepare_and_act(case: Case, folder: Path, out: int) -> None:
    """Write the files, act in a fork, and write the result into a pipe."""
    try:
        action = case.prepare(folder)
    except BaseException:
        _send(out, Result(case.kind, case.name, "traceback", "prepare: " + traceback.format_exc()))
        return
    reading, writing = os.pipe()
    before, began = _resident(), time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _act(case, action, folder, writing)
        os._exit(0)
    os.close(writing)
    answer = _read_until(reading, TIMEOUT)
    waited = time.monotonic() - began
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL) if not answer else None
    _, status, usage = os.wait4(child, 0)
    seconds = usage.ru_utime + usage.ru_stime
    growth = max(0, usage.ru_maxrss * 1024 - before)
    if answer:
        end, text = pickle.loads(answer)
    elif waited >= TIMEOUT:
        end, text = "hang", f"no end after {TIMEOUT:g} s"
    else:
        end, text = "traceback", f"the process ended with status {status}"
    if end in ("sentence", "right"):
        if growth > MAX_GROWTH:
            end = "memory"
        elif seconds > (case.seconds if end == "right" else MAX_SECONDS):
            end = "slow"
    _send(out, Result(case.kind, case.name, end, text, seconds, growth))


def _send(out: int, value: Any) -> None:
    with os.fdopen(out, "wb") as pipe:
        pickle.dump(value, pipe)


def _resident() -> int:
    """Return the resident memory of this process in bytes."""
    with STATM.open() as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _mapped() -> int:
    with STATM.open() as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _act(case: Case, action: Action, folder: Path, out: int) -> None:
    """Call the user's function and judge how it ended."""
    resource.setrlimit(resource.RLIMIT_AS, (_mapped() + ADDRESS_SPACE,) * 2)
    before = _listing(folder / "data")
    with (folder / "terminal.txt").open("w+") as terminal:
        os.dup2(terminal.fileno(), 1)
        os.dup2(terminal.fileno(), 2)
        sys.stdout = sys.stderr = terminal
        end, text = _judge(case, action, folder)
        terminal.flush()
        terminal.seek(0)
        said = terminal.read()
    if end in ("sentence", "right") and "Traceback (most recent call last)" in said:
        end, text = "traceback", said[-3000:]
    if end in ("sentence", "right") and _listing(folder / "data") != before:
        end = "changed"
    _send(out, (end, text))


def _judge(case: Case, action: Action, folder: Path) -> tuple[str, str]:
    from engine.cli import user_message

    try:
        value = action()
    except (KeyboardInterrupt, SystemExit):
        return "traceback", traceback.format_exc()[-3000:]
    except BaseException as error:
        found = user_message(error)
        if found is None:
            return "traceback", traceback.format_exc()[-3000:]
        return _judge_sentence(case, found[0], folder)
    if case.right is None:
        return "wrong", f"accepted: {value!r}"[:500]
    try:
        fits = case.right(value)
    except Exception:
        return "wrong", traceback.format_exc()[-3000:]
    return ("right", "") if fits else ("wrong", f"not the right values: {value!r}"[:500])


def _judge_sentence(case: Case, sentence: str, folder: Path) -> tuple[str, str]:
    missing = [name for name in case.names if name not in sentence]
    if not case.names and not any(path.name in sentence for path in folder.rglob("*")):
        missing = ["any name of a file"]
    if missing or "\n" in sentence or not sentence or len(sentence) > MAX_SENTENCE:
        return "bad sentence", f"{sentence[:1800]} (lacks {missing})"
    if not case.may_refuse:
        return "wrong", f"refused: {sentence}"
    return "sentence", sentence


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    """Return path, size and time of change of everything below a folder."""
    found = []
    for path in folder.rglob("*"):
        status = path.lstat()
        found.append((str(path), status.st_size, status.st_mtime_ns))
    return sorted(found)
