"""Kills of a run before each change of its folder, and in the middle of each file that it writes.

python benchmarks/faults.py crash [--run curriculum] [--points 20] [--half] [--again]

One run on phantoms is not interrupted. Others are killed (SIGKILL) at one point each and continue
with `resume=auto` in their folder, or in a new one with `ckpt_path=`. Then weights, optimizer,
metrics.csv, stages and scores must be equal, bit for bit.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import parts  # noqa: F401  (puts the repository on the path)

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
ALL = [
    *("image_size=64", "evaluation_size=64", "datamodule.batch_size=8", "datamodule.num_workers=0"),
    "module.net={encoder:{name:resnet18,weights:null},encoder_depth:3,decoder_channels:[16,8,8]}",
    *("module.optimizer.lr=1e-3", "trainer.enable_progress_bar=false", "trainer.accelerator=cpu"),
]
SMALL = [
    *("experiment=unetpp_brain_tumor", *ALL),
    *("trainer.max_epochs=3", "module/scheduler=warmup_cosine"),
]
STAGES = (
    "callbacks.curriculum.stages=[{epochs:1,lr:1e-3,batch_size:4,positive_fraction:0.5},"
    "{epochs:2,lr:5e-4,batch_size:6,positive_fraction:0.3}]"
)
RUNS = {  # name -> words
    "plain": SMALL,
    "folds": [*SMALL, "folds=2", "trainer.max_epochs=2"],
    "processes": [*SMALL, "trainer.devices=2"],
    "curriculum": [
        *("experiment=curriculum_pnx", *ALL, "datamodule/sampling=natural", STAGES),
        *("datamodule.cls_prob=null", "datamodule.cache_size=64", "trainer.max_epochs=3"),
    ],
}
TIMEOUT = 600  # seconds of one run
HALVES = (1, 900, 40_000)  # bytes that are written of a file before the kill


@dataclass
class ChangeCounter:
    """Counts the changes of a folder by this process, and kills it before one of them.

    Args:
        folder: The folder.
        kill_at: Number of the change, from 0; None to kill at none.
        half: Bytes that are still written to the file of that change; None to kill before it.
    """

    folder: Path
    kill_at: int | None = None
    half: int | None = None
    names: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Handle an event of Python's audit hooks."""
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, str | bytes | os.PathLike) or not flags & WRITING:
                return
        elif event in CHANGES:
            path = arguments[1] if event == "os.rename" else arguments[0]
        else:
            return
        name = os.path.relpath(os.fsdecode(path), self.folder)
        if name.startswith("..") or name == "run.log":
            return
        if len(self.names) == self.kill_at:
            if self.half is None or event != "open":
                os.kill(os.getpid(), signal.SIGKILL)
            self._limit_files(Path(os.fsdecode(path)))
        self.names.append(f"{event} {name}")

    def _limit_files(self, path: Path) -> None:
        """Let the system kill this process when a file grows beyond a limit."""
        size = path.stat().st_size if path.is_file() else 0
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + int(self.half or 0), most))


def run_in_fork(
    words: Sequence[str],
    folder: Path,
    counter: ChangeCounter | None,
    list_file: Path | None = None,
    log: Path = Path(os.devnull),
) -> int:
    """Run the command line in a fork of this process, which has all imports already.

    Args:
        words: Overrides.
        folder: Run folder.
        counter: Counter of its changes, or None.
        list_file: File for the changes.
        log: File for what it prints.

    Returns:
        Its exit code; negative for a signal.
    """
    run_words = [*words, f"hydra.run.dir={folder}"]
    return call_in_fork(partial(_run_command, run_words, counter, list_file), log)


def call_in_fork(work: Callable[[], object], log: Path) -> int:
    """Call a function in a fork of this process; what it prints goes to a file.

    Returns:
        0, or the exit code that it raised; negative for a signal.
    """
    child = os.fork()
    if child == 0:
        code = 70
        try:
            printed = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(printed, 1)
            os.dup2(printed, 2)
            sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
            work()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise TimeoutError(f"a process took more than {TIMEOUT} s")


def _run_command(
    words: Sequence[str], counter: ChangeCounter | None, list_file: Path | None
) -> None:
    import engine.run_log
    import run

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.argv = ["run.py", *words]
    if counter is not None:
        if counter.half is not None:  # otherwise this file would grow beyond the limit first
            engine.run_log.append_log = lambda path, text: None  # type: ignore[assignment]
        sys.addaudithook(counter)
    try:
        run.main()
    finally:
        if counter is not None and list_file is not None:
            list_file.write_text("\n".join(counter.names))


def find_differences(one: Path, other: Path) -> list[str]:
    """Return what of two run folders differs, of all that has to be equal."""
    places = [
        sorted(str(path.relative_to(folder)) for path in kept_files(folder))
        for folder in (one, other)
    ]
    if places[0] != places[1]:
        return [f"files: {', '.join(sorted({*places[0]} ^ {*places[1]}))}"]
    found = []
    for place in places[0]:
        ours, theirs = one / place, other / place
        if ours.suffix == ".ckpt":
            states = (read_state(path) for path in (ours, theirs))
            found += [f"{place}: {key}" for key in _differing_leaves(*states)]
        elif ours.name == "report.json":
            scores = [json.loads(path.read_text())["scores"] for path in (ours, theirs)]
            found += [f"scores of {place}"] if scores[0] != scores[1] else []
        elif ours.read_bytes() != theirs.read_bytes():
            found.append(place)
    outcome = json.loads((other / "outcome.json").read_text())
    if outcome["status"] != "finished":
        found.append(f"outcome {outcome['status']}")
    left = [path.name for path in other.rglob(".*.*") if path.name.rpartition(".")[2].isdecimal()]
    return found + [f"left over: {name}" for name in left]


def kept_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a run, and of its folds, that have to be equal."""
    for pattern in ("checkpoints/*.ckpt", "metrics.csv", "stages.json", "report.json"):
        yield from folder.rglob(pattern)


def read_state(path: Path) -> dict[str, Any]:
    """Return all values of a checkpoint that training depends on, by their place in it."""
    import torch

    read = torch.load(path, weights_only=True)
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "random_states", "epoch")
    return dict(_iter_leaves("", {key: read[key] for key in kept if key in read}))


def _iter_leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list | tuple):
        parts_of = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in parts_of:
            yield from _iter_leaves(f"{name}.{key}".lstrip("."), part)
    else:
        yield name, value


def _differing_leaves(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    import torch

    both = one.keys() & other.keys()
    return sorted(one.keys() ^ other.keys()) + [
        key
        for key in sorted(both)
        if not (
            torch.equal(one[key], other[key])
            if torch.is_tensor(one[key])
            else one[key] == other[key]
        )
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--run", choices=RUNS, default="plain", dest="kind")
    parser.add_argument("--points", type=int, default=0, help="random points; 0 for all")
    parser.add_argument("--half", action="store_true", help="kill in the middle of files")
    parser.add_argument("--tmpdir", help="TMPDIR of the runs, such as a folder on another disk")
    parser.add_argument("--again", action="store_true", help="kill the resumed run once more")
    parser.add_argument(
        "--resume", choices=["own", "new"], default="own", help="folder to continue in"
    )
    parser.add_argument("--words", nargs="*", default=[], help="further words of the command")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> int:
    """Try the points; return 1 if a run could not continue, or ended with other results."""
    if arguments.tmpdir:
        os.environ["TMPDIR"] = arguments.tmpdir
    work = Path(tempfile.mkdtemp(prefix="crash-", dir=os.environ.get("CRASH_FOLDER")))
    try:
        return _try_points(arguments, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def prepare_forks() -> None:
    """Import what every fork needs, and keep to one thread: OpenMP's do not survive a fork."""
    import torch

    import engine.runner  # noqa: F401

    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    torch.set_num_threads(1)


def _try_points(arguments: argparse.Namespace, work: Path) -> int:
    from datamodules.phantoms import brain_tumor, pneumothorax

    prepare_forks()
    os.environ["MEDICAL_CACHE"] = str(work / "cache")
    if arguments.kind == "curriculum":
        pneumothorax.write(work / "data", images=90, size=64, positive=0.33, seed=3)
    else:
        brain_tumor.write(work / "data", train=26, valid=12, test=12, size=96, seed=3)
    words = [*RUNS[arguments.kind], f"datamodule.root={work / 'data'}", *arguments.words]
    whole, listed = work / "whole", work / "changes.txt"
    code = run_in_fork(words, whole, ChangeCounter(whole), listed)
    if code:
        print(f"the run itself ended with exit code {code}")
        return 1
    changes = listed.read_text().splitlines()
    chosen = [n for n, name in enumerate(changes) if not arguments.half or name.startswith("open")]
    draw = random.Random(arguments.seed)
    if arguments.points:
        chosen = sorted(draw.sample(chosen, min(arguments.points, len(chosen))))
    print(f"{len(changes)} changes of the run folder, {len(chosen)} points")
    failed = killed = 0
    for number in chosen:
        half = draw.choice(HALVES) if arguments.half else None
        cut = work / "cut"
        shutil.rmtree(cut, ignore_errors=True)
        code = run_in_fork(words, cut, ChangeCounter(cut, number, half))
        killed += code < 0
        again = [*words, "resume=auto"]
        if arguments.again and code < 0:
            second = draw.randrange(len(changes) // 2)
            run_in_fork(again, cut, ChangeCounter(cut, second))
        problem = _go_on(arguments, words, cut, work / "new", whole)
        where = changes[number] + (f" after {half} bytes" if half is not None else "")
        print(f"{number:4d} {where}: {problem or 'equal'}", flush=True)
        failed += bool(problem)
    print(f"{len(chosen)} points, {killed} killed, {failed} not equal to the uninterrupted run")
    return int(failed > 0)


def _go_on(
    arguments: argparse.Namespace, words: list[str], cut: Path, new: Path, whole: Path
) -> str:
    """Go on with a killed run; return what is wrong, or nothing."""
    last = cut / "checkpoints" / "last.ckpt"
    folder, more = cut, ["resume=auto"]
    if arguments.resume == "new" and last.is_file():
        shutil.rmtree(new, ignore_errors=True)
        folder, more = new, [f"ckpt_path={last}"]
    code = run_in_fork([*words, *more], folder, None)
    if code:
        log = folder / "run.log"
        said = log.read_text().strip().splitlines()[-1:] if log.is_file() else []
        return f"exit code {code}: {' '.join(said)}"
    return ", ".join(find_differences(whole, folder)[:4])
