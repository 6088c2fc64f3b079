"""sweep.html: the best trial and its command, how the search went, which key matters, and every trial."""

import shlex
from collections import Counter
from pathlib import Path

from callbacks.report.template import render
from callbacks.sweeps.figures import (
    plot_history,
    plot_importances,
    plot_parallel_coordinates,
    plot_training_curves,
)
from callbacks.sweeps.importance import compute_importances
from callbacks.sweeps.table import format_duration
from callbacks.sweeps.tried import TrialResult, load_trials, rank_trials, select_best_trial
from callbacks.sweeps.words import REPLICATE_KEYS, format_value, short_names
from datamodules.whole_file import atomic_write

SWEEP_PAGE = "sweep.html"


def write_sweep_page(sweep_dir: Path) -> None:
    """Writes the page into the sweep's folder and says where it is; nothing where no two trials differ."""
    trials = load_trials(sweep_dir)
    if not trials or not trials[0].varied_values:
        return
    atomic_write(sweep_dir / SWEEP_PAGE, render_sweep_page(trials, sweep_dir).encode())
    print(f"sweep: {sweep_dir / SWEEP_PAGE}")


def render_sweep_page(trials: list[TrialResult], sweep_dir: Path) -> str:
    """The page as HTML.

    Args:
        trials: In the order of their numbers.
        sweep_dir: The sweep's folder.
    """
    keys = short_names(trials[0].varied_values)
    drawn = [key for key in REPLICATE_KEYS if key in keys]
    first = None if drawn else select_best_trial(trials)
    shares, said = ({}, None) if drawn else compute_importances(trials)
    monitor = trials[0].monitor
    figures: dict[str, str | None] = {} if drawn else {f"{monitor} by trial": plot_history(trials)}
    figures |= {f"{monitor} by epoch": plot_training_curves(trials, first)} | (
        {"which key matters": plot_importances(shares)} if shares else {}
    )
    counted = Counter(trial.state for trial in trials)
    return render(
        Path(__file__).parent,
        "sweep.html",
        title=f"Sweep {sweep_dir.name}",
        sweep=str(sweep_dir),
        phantom=any(trial.phantom for trial in trials),
        best=first,
        drawn=drawn,
        merged=(sweep_dir / "report.html").is_file(),
        command=trial_command(first) if first else None,
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
        parallel=None if drawn else plot_parallel_coordinates(trials),
        importance=said,
        tested=list(dict.fromkeys(name for trial in trials for name in trial.test)),
        rows=[
            (
                trial,
                format_duration(trial.seconds),
                {key: format_value(value) for key, value in trial.varied_values.items()},
            )
            for trial in rank_trials(trials)
        ],
    )


def trial_command(trial: TrialResult) -> str:
    """The command line that carries out a trial by itself."""
    return " ".join(["python run.py", *map(shlex.quote, trial.overrides)])
