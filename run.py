"""Command line: python run.py experiment=NAME composes an experiment and runs the steps in `do`."""

import io
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONF = Path(__file__).parent / "conf"


def job(cfg: "DictConfig") -> float | None:
    """Run one job for Hydra; user errors are reported before Hydra adds its own words."""
    return run_or_exit(run_job, cfg)


def run_job(cfg: "DictConfig") -> float | None:
    """Run one run or one trial of a sweep; what it prints is kept in run.log."""
    from engine.run_log import run_log
    from engine.stop_signals import explain_stop
    from engine.sweeps.trial import is_trial, run_trial_job
    from engine.tasks import run_task
    from engine.umask import narrow_umask
    from reporting.outcome import StopRequested

    # also here, because a job of Slurm has only this function
    with narrow_umask(cfg.private is True), run_log(Path(str(cfg.paths.run))):
        try:
            return run_trial_job(run_task, cfg) if is_trial() else run_task(cfg)
        except StopRequested as stop:
            raise explain_stop(stop, cfg) from stop


def run_or_exit(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call `work`; an error ends the process with one sentence and no traceback.

    What no sentence explains is a bug; its traceback is then kept in a file.
    """
    try:
        return work(*arguments)
    except Exception as error:
        from engine.cli import user_message

        sentence = user_message(error)
        if sentence is None:
            from engine.bug_report import EXIT_CODE, report_bug

            sentence = report_bug(error), EXIT_CODE
        print(f"{rank_prefix()}{sentence[0]}", file=sys.stderr)
        sys.exit(sentence[1])


def rank_prefix() -> str:
    """Return a prefix with the rank of this process; it is empty for the first rank."""
    from lightning_modules.launch_environment import rank

    return f"[rank {rank()}] " if rank() else ""


def share_run_folder() -> None:
    """Give the ranks of torchrun or srun one run folder, unless the user named it."""
    from lightning_modules.launch_environment import shared_run_name

    if not any(word.startswith("hydra.run.dir=") for word in sys.argv):
        try:
            name = shared_run_name()
        except ValueError as error:
            sys.exit(str(error))
        if name:
            sys.argv.append(
                f"hydra.run.dir=${{paths.runs}}/${{hydra:runtime.choices.experiment}}/{name}"
            )


def name_comparison_folder() -> None:
    """Write a comparison to `runs/comparisons`, unless an experiment or a folder is named."""
    keys = {word.partition("=")[0].lstrip("+") for word in sys.argv[1:]}
    compares = any(re.fullmatch(r"do=\[?compare\]?", word) for word in sys.argv[1:])
    if compares and not keys & {"experiment", "hydra.run.dir"}:
        sys.argv.append("hydra.run.dir=${paths.runs}/comparisons/${now:%Y-%m-%d_%H-%M-%S}")


def prepare_command_line() -> None:
    """Quote existing paths, and refuse words that are no overrides; name replaced conf files."""
    from engine.overrides import prepare_overrides
    from engine.user_code import check_user_conf
    from lightning_modules.launch_environment import rank

    if rank() == 0:
        check_user_conf()
    sys.argv[1:] = prepare_overrides(sys.argv[1:])
    if any(word.lstrip("+").startswith("ckpt_path=") for word in sys.argv):
        from engine.recomposition import recompose

        sys.argv[1:] = recompose(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # for symbols that a terminal's encoding lacks


def main() -> None:
    """Run the command line; Ctrl-C and SIGTERM end it with one sentence."""
    from engine.stop_signals import handle_stop_signals
    from reporting.outcome import STOPPED, StopRequested

    try:
        with handle_stop_signals():
            run_command_line()
    except StopRequested as stop:
        print(f"{rank_prefix()}{stop} before the run began; nothing was written", file=sys.stderr)
        sys.exit(STOPPED)


def run_command_line() -> None:
    """Compose the experiment and run it."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        from engine.cli import help_text

        print(help_text())
        return
    # Hydra passes complete errors, and main prints them as one sentence
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import hydra

    run_or_exit(prepare_command_line)
    name_comparison_folder()
    share_run_folder()
    # Hydra makes its own callbacks without a whitelist; this one is ours
    warnings.filterwarnings(
        "ignore", r"hydra\.utils\.instantiate\(\) resolved _target_='engine\.sweeps\.hydra_callback"
    )
    from engine.umask import narrow_umask

    with narrow_umask():
        run_or_exit(hydra.main(config_path=str(CONF), config_name="run")(job))


if __name__ == "__main__":
    main()
