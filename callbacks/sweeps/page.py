"""sweep.html: the best trial and its command, how the search went, which key matters, and every trial."""

import shlex
from collections import Counter
from pathlib import Path

from callbacks.report.template import render
from callbacks.sweeps.figures import bars, courses, history, parallel
from callbacks.sweeps.importance import importances
from callbacks.sweeps.table import duration
from callbacks.sweeps.tried import Tried, best, ranked, trials_of
from callbacks.sweeps.words import DRAWN, short_names, shortened
from datamodules.whole_file import write_whole

NAME = "sweep.html"


def write(sweep: Path) -> None:
    """Writes the page into the sweep's folder and says where it is; nothing where no two trials differ."""
    trials = trials_of(sweep)
    if not trials or not trials[0].words:
        return
    write_whole(sweep / NAME, page(trials, sweep).encode())
    print(f"sweep: {sweep / NAME}")


def page(trials: list[Tried], sweep: Path) -> str:
    """The page as HTML.

    Args:
        trials: In the order of their numbers.
        sweep: The sweep's folder.
    """
    keys = short_names(trials[0].words)
    drawn = [key for key in DRAWN if key in keys]
    first = None if drawn else best(trials)
    shares, said = ({}, None) if drawn else importances(trials)
    monitor = trials[0].monitor
    figures: dict[str, str | None] = {} if drawn else {f"{monitor} by trial": history(trials)}
    figures |= {f"{monitor} by epoch": courses(trials, first)} | (
        {"which key matters": bars(shares)} if shares else {}
    )
    counted = Counter(trial.state for trial in trials)
    return render(
        Path(__file__).parent,
        "sweep.html",
        title=f"Sweep {sweep.name}",
        sweep=str(sweep),
        phantom=any(trial.phantom for trial in trials),
        best=first,
        drawn=drawn,
        merged=(sweep / "report.html").is_file(),
        command=command(first) if first else None,
        monitor=monitor,
        lower=trials[0].mode == "min",
        mixed=sorted({trial.monitor for trial in trials if trial.monitor != "–"}),
        counted={
            state: counted[state]
            for state in ("finished", "pruned", "failed", "stopped")
            if counted[state]
        },
        total=len(trials),
        keys=keys,
        figures={title: svg for title, svg in figures.items() if svg},
        parallel=None if drawn else parallel(trials),
        importance=said,
        tested=list(dict.fromkeys(name for trial in trials for name in trial.test)),
        rows=[
            (
                trial,
                duration(trial.seconds),
                {key: shortened(value) for key, value in trial.words.items()},
            )
            for trial in ranked(trials)
        ],
    )


def command(trial: Tried) -> str:
    """The command line that carries out a trial by itself."""
    return " ".join(["python run.py", *map(shlex.quote, trial.command)])
