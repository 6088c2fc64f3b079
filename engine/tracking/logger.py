"""W&B logger that never stops a run and uploads nothing private."""

import configparser
import logging
import netrc
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from lightning import Trainer
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from omegaconf import DictConfig, OmegaConf

from datamodules.arguments import FilePath, NonNegativeFloat, validated
from datamodules.errors import UserError
from engine.tracking.comet_logger import PrivateCometLogger
from engine.tracking.identity import chosen_experiment, wandb_init_kwargs
from engine.tracking.privacy import PRIVATE_SETTINGS, UploadPolicy, redact_config
from reporting.commands import relative_to_cwd

SERVER = "https://api.wandb.ai"


def is_logged_in() -> bool:
    """Return True if the environment or ~/.netrc holds a key for the configured server."""
    return (
        any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"))
        or _has_netrc_entry()
    )


def _server_url() -> str:
    """Return the server that `wandb login --host` stored, else W&B's own."""
    message = configparser.ConfigParser()
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    try:
        message.read([folder / "settings", Path("wandb") / "settings"])
        return message.get("default", "base_url", fallback=SERVER)
    except (OSError, configparser.Error):
        return SERVER


def _has_netrc_entry() -> bool:
    file = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or _server_url()).hostname or ""
    try:
        return netrc.netrc(str(file)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


STEP_METRIC = "trainer/global_step"  # name in Lightning's logger


def init_run(
    words: dict[str, Any],
    config: dict[str, Any],
    mode: str,
    wait: Mapping[str, float],
    monitor: Mapping[str, str],
) -> Any:
    """Start a run of W&B.

    Args:
        words: Arguments of `wandb.init` that identify the run.
        config: Configuration to show.
        mode: `online` or `offline`.
        wait: Seconds to wait at the `start` and at the `end`.
        monitor: `name` and `mode` of the monitored score.

    Raises:
        UserError: Not even local run files can be written.
    """
    os.environ["WANDB_ERROR_REPORTING"] = "false"  # W&B's reports of its own errors name folders
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    logging.getLogger("wandb").setLevel(
        logging.WARNING
    )  # its debug.log would otherwise name the run folder
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
        except Exception as error:  # training continues after any error of a server, proxy or key
            message = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            print(
                f"W&B: the server does not answer, or does not accept this run ({message}), so it"
                f" is"
                " kept offline",
                flush=True,
            )
            _restart_run()  # otherwise its service keeps the id
            _remove_remains(words)
    run = _offline_reason(given) if run is None else run
    _define_metrics(run, monitor)
    return run


def _offline_reason(given: dict[str, Any]) -> Any:
    """Start offline; try again with a new service if that of an earlier run has died."""
    import wandb

    try:
        return wandb.init(**given, mode="offline")
    except Exception:
        _restart_run()
    try:
        return wandb.init(**given, mode="offline")
    except Exception as error:
        message = str(error) or type(error).__name__
        raise UserError(
            f"W&B cannot keep this run in {given['dir']} ({message}); set"
            f" logger.wandb.mode=disabled"
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

    W&B's own sweeps use its last value.
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
        run: The W&B run.
        code: Its exit code.
        wait: Seconds to wait for the server.
    """
    place, offline = Path(run.dir).parent, run.offline
    try:
        run.finish(exit_code=code)
        if offline:
            parts = sorted(place.parent.glob(f"offline-run-*-{run.id}")) or [place]
            named = " ".join(str(relative_to_cwd(part)) for part in parts)
            several = " as one run" if len(parts) > 1 else ""  # it was resumed in its folder
            print(f"W&B: kept offline; wandb sync {named} sends it{several}", flush=True)
    except TimeoutError:
        print(
            f"W&B: the server did not receive everything within {wait:g} s; wandb sync"
            f" {relative_to_cwd(place)} sends the rest",
            file=sys.stderr,
        )
    except Exception as error:
        message = str(error) or type(error).__name__
        print(
            f"W&B: the run did not end properly ({message}); wandb sync {relative_to_cwd(place)}"
            " sends its files",
            file=sys.stderr,
        )
        _restart_run()
    (place / "logs" / "debug-core.log").unlink(missing_ok=True)  # a link into the user's home


OFF = {
    "dryrun": "offline",
    "offline": "offline",
    "disabled": "disabled",
}  # values of WANDB_MODE, which may only restrict


@validated
class PrivateWandbLogger(WandbLogger):
    """W&B logger: numbers are logged during the run, results are sent when it is closed.

    Example:
        logger: {wandb: {run_dir: "${paths.run}", project: my-project, mode: offline, upload:
            {images: true}}}

    Args:
        run_dir: Run folder; its config.yaml is shown, and W&B's files are written below it.
        experiment: Name of the experiment; None for that of the command.
        project: Project on W&B.
        entity: User or team on W&B; None for the login's own.
        name: Name of the run; None makes one from the trial, the fold and the time.
        group: Group on W&B; None for its sweep or its run of several folds.
        job_type: Job type on W&B; None for `train`, or the name of another step.
        tags: Tags on W&B.
        notes: Notes on W&B.
        mode: `online` (offline without a login or an answer), `offline` or `disabled`.
        timeouts: Seconds to wait for the server, at the `start` and at the `end`.
        upload: Content that may leave the machine besides numbers, see `UploadPolicy`.

    Raises:
        UserError: The mode or an upload is unknown.
    """

    def __init__(
        self,
        run_dir: FilePath,
        project: str,
        experiment: str | None = None,
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] | None = None,
        notes: str | None = None,
        mode: Literal["online", "offline", "disabled"] = "online",
        timeouts: Mapping[str, NonNegativeFloat] | None = None,
        upload: Mapping[str, bool] | None = None,
    ) -> None:
        super().__init__(save_dir=run_dir, project=project)
        self.mode = OFF.get(os.environ.get("WANDB_MODE", ""), mode) if mode == "online" else mode
        self.run_dir, self.upload, self._name_in_menu = (
            Path(run_dir),
            UploadPolicy(**(upload or {})),
            experiment or chosen_experiment(),
        )
        self._experiment: Any = None
        self._broken = False
        self._wait = {"start": 20.0, "end": 120.0} | dict(timeouts or {})
        self._asked = {
            "project": project,
            "entity": entity,
            "name": name,
            "group": group,
            "job_type": job_type,
            "tags": tags,
            "notes": notes,
        }
        self._reported = self._report_timestamp()

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B run, started on first access, on the first rank only."""
        if self._experiment is None:
            self._experiment = (
                DummyLogger().experiment if self.mode == "disabled" else self._ensure_started()
            )
        return self._experiment

    @property
    def version(self) -> str:
        """Empty version, because the progress bar would otherwise show the end of W&B's id."""
        return ""

    def log_hyperparams(self, params: Any = None) -> None:
        """Start the run, which shows the configuration instead of the module's arguments."""
        _ = self.experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers; if W&B fails during a run, print a message once and stop logging."""
        if self._broken:
            return
        try:
            super().log_metrics(metrics, step)
        except Exception as error:
            if self._experiment is None:  # it could not be started
                raise
            self._broken = True
            print(
                f"W&B: logging has stopped ({type(error).__name__}: {error}); metrics.csv is"
                f" complete",
                file=sys.stderr,
            )

    def close(self, code: int, trainer: Trainer | None = None) -> None:
        """Send the results and end the run; an error here never fails the training run.

        Args:
            code: Exit code; a run with a code other than 0 is marked as failed.
            trainer: Trainer whose callbacks hold the images.
        """
        run, self._experiment = self._experiment, None
        if run is None or self.mode == "disabled":
            return
        try:
            if code == 0 and self._report_timestamp() != self._reported:
                from engine.tracking.results import log_results

                log_results(run, self.run_dir, self.upload, trainer)
        except Exception as error:
            print(
                f"W&B: the results were not sent ({type(error).__name__}: {error}); they are in"
                f" {self.run_dir}",
                file=sys.stderr,
            )
        finally:
            finish_run(run, code, self._wait["end"])

    def _ensure_started(self) -> Any:
        if self.mode == "online" and not is_logged_in():
            print(
                "W&B: no login found, so this run is kept offline; log in with `wandb login`, or"
                " set logger.wandb.mode=disabled",
                flush=True,
            )
            self.mode = "offline"
        cfg = OmegaConf.load(self.run_dir / "config.yaml")
        if not isinstance(cfg, DictConfig):
            raise TypeError(f"{self.run_dir / 'config.yaml'} holds no configuration")
        plain: Any = OmegaConf.to_container(cfg)
        config = {"experiment": self._name_in_menu, **redact_config(plain, self.upload)}
        return init_run(
            wandb_init_kwargs(cfg, self._name_in_menu, self._asked),
            config,
            self.mode,
            self._wait,
            plain["monitor"],
        )

    def _report_timestamp(self) -> int | None:
        """Return the time of report.json, so that earlier results are not sent again."""
        path = self.run_dir / "report.json"
        return path.stat().st_mtime_ns if path.is_file() else None


def close_loggers(loggers: Iterable[Any], code: int, trainer: Trainer) -> None:
    """End a run's loggers of W&B and Comet; for the arguments see `PrivateWandbLogger.close`."""
    for logger in loggers:
        if isinstance(logger, PrivateWandbLogger):
            logger.close(code, trainer)
        elif isinstance(logger, PrivateCometLogger):
            logger.close(code)
