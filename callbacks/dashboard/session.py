"""Start and end a W&B run; it is kept offline, with a message, where the server does not answer."""

import logging
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from callbacks.dashboard.privacy import PRIVATE_SETTINGS
from callbacks.runs.quoting import relative_to_cwd
from datamodules.refusal import UserError

STEP_METRIC = "trainer/global_step"  # as Lightning's logger calls it


def init_run(
    words: dict[str, Any],
    config: dict[str, Any],
    mode: str,
    wait: Mapping[str, float],
    monitor: Mapping[str, str],
) -> Any:
    """Start a run of W&B.

    Args:
        words: What identifies it, as `wandb.init` takes it.
        config: That it shows.
        mode: `online` or `offline`.
        wait: Seconds for the `init_run` and the `end`.
        monitor: `name` and `mode` of the score that decides.

    Raises:
        Refusal: not even run files can be written.
    """
    os.environ["WANDB_ERROR_REPORTING"] = "false"  # W&B's reports of its own errors name folders
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    logging.getLogger("wandb").setLevel(
        logging.WARNING
    )  # its debug.log would else name the run folder
    limits: dict[str, Any] = {
        "init_timeout": wait["start"],
        "finish_timeout": wait["end"],
        "finish_timeout_raises": True,
    }
    given = {
        **words,
        "config": config,
        "settings": wandb.Settings(**PRIVATE_SETTINGS, **limits),
        "resume": "allow",
        "reinit": "finish_previous",
    }
    run = None
    if mode == "online":
        try:
            run = wandb.init(**given, mode="online")
            print(f"W&B: {run.url}", flush=True)
        except Exception as error:  # a server, a proxy, a key: whatever it is, training continues
            said = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            print(
                f"W&B: the server does not answer, or does not take this run ({said}), so it is"
                " kept offline",
                flush=True,
            )
            _restart_run()  # its service would hold the id
            _remove_remains(words)
    run = _offline_reason(given) if run is None else run
    _define_metrics(run, monitor)
    return run


def _offline_reason(given: dict[str, Any]) -> Any:
    """Start offline; try again in a new service where that of an earlier run has died."""
    import wandb

    try:
        return wandb.init(**given, mode="offline")
    except Exception:
        _restart_run()
    try:
        return wandb.init(**given, mode="offline")
    except Exception as error:
        said = str(error) or type(error).__name__
        raise UserError(
            f"W&B cannot keep this run in {given['dir']} ({said}); set logger.wandb.mode=disabled"
        ) from error


def _restart_run() -> None:
    """Tear down W&B's own process."""
    import wandb

    with suppress(Exception):
        wandb.teardown()


def _remove_remains(words: dict[str, Any]) -> None:
    """Remove the files of a run that did not start."""
    for place in Path(words["dir"]).glob(f"wandb/run-*-{words['id']}"):
        shutil.rmtree(place, ignore_errors=True)


def _define_metrics(run: Any, monitor: Mapping[str, str]) -> None:
    """Plot every panel over the step, and show the best monitored score in the table of runs.

    W&B's own sweeps want its last value.
    """
    run.define_metric(STEP_METRIC)
    run.define_metric("*", step_metric=STEP_METRIC, step_sync=True)
    if "WANDB_SWEEP_ID" in os.environ:
        return
    for name, best in {
        "train/loss": "min",
        "val/loss": "min",
        monitor["name"]: monitor["mode"],
    }.items():
        run.define_metric(name, step_metric=STEP_METRIC, step_sync=True, summary=f"{best},last")


def finish_run(run: Any, code: int, wait: float) -> None:
    """End a run, and print where its files are if they are not on the server.

    Args:
        run: Of W&B.
        code: Its exit code.
        wait: Seconds that the server is waited for.
    """
    place, offline = Path(run.dir).parent, run.offline
    try:
        run.finish(exit_code=code)
        if offline:
            print(f"W&B: kept offline; wandb sync {relative_to_cwd(place)} sends it", flush=True)
    except TimeoutError:
        print(
            f"W&B: the server did not take everything within {wait:g} s; wandb sync"
            f" {relative_to_cwd(place)} sends the rest",
            file=sys.stderr,
        )
    except Exception as error:
        said = str(error) or type(error).__name__
        print(
            f"W&B: the run was not ended well ({said}); wandb sync {relative_to_cwd(place)} sends what is"
            " there",
            file=sys.stderr,
        )
        _restart_run()
    (place / "logs" / "debug-core.log").unlink(missing_ok=True)  # a link into the user's home
