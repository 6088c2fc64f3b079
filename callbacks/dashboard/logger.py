"""Lightning's W&B logger, private by default; a server that is away never stops a run."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning import Trainer
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from omegaconf import DictConfig, OmegaConf

from callbacks.dashboard import session
from callbacks.dashboard.identity import chosen_experiment, wandb_init_kwargs
from callbacks.dashboard.login import is_logged_in
from callbacks.dashboard.privacy import UploadPolicy, redact_config
from datamodules.arguments import FilePath, NonNegative, validated

OFF = {
    "dryrun": "offline",
    "offline": "offline",
    "disabled": "disabled",
}  # of WANDB_MODE, which may only turn down


@validated
class PrivateWandbLogger(WandbLogger):
    """A run on W&B: numbers are logged during the run, results are sent when it is closed.

    Example:
        logger: {wandb: {run_dir: "${paths.run}", project: my-project, mode: offline, upload:
            {images: true}}}

    Args:
        run_dir: The run folder; its config.yaml is the configuration that is shown, and run files
            are written below it.
        experiment: Its name in the menu; None for the one that was chosen.
        project: On W&B.
        entity: User or team on W&B; None for the login's own.
        name: Of the run; None for one made from the trial, the fold and the time.
        group: None for the sweep or the run of several folds that it belongs to.
        job_type: None for `train`, or what is done instead.
        tags: On W&B.
        notes: On W&B.
        mode: `online` (offline where there is no login, or no answer), `offline`, `disabled`.
        timeouts: Seconds that the server is waited for, at the `start` and at the `end`.
        upload: What may leave the machine besides numbers, as `Upload`.

    Raises:
        Refusal: a mode or an upload that does not exist.
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
        timeouts: Mapping[str, NonNegative] | None = None,
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
        """W&B's run, started on first access, on the first rank alone."""
        if self._experiment is None:
            self._experiment = (
                DummyLogger().experiment if self.mode == "disabled" else self._ensure_started()
            )
        return self._experiment

    @property
    def version(self) -> str:
        """Empty, because the progress bar would else show the end of W&B's id."""
        return ""

    def log_hyperparams(self, params: Any = None) -> None:
        """Start the run, which shows the configuration instead of the module's arguments."""
        _ = self.experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers; if W&B fails in the middle of a run, say so once and log no more."""
        if self._broken:
            return
        try:
            super().log_metrics(metrics, step)
        except Exception as error:
            if self._experiment is None:  # it could not even be started
                raise
            self._broken = True
            print(
                f"W&B: no more is logged ({type(error).__name__}: {error}); metrics.csv has it all",
                file=sys.stderr,
            )

    def close(self, code: int, trainer: Trainer | None = None) -> None:
        """Send the results and end the run; an error here never fails a good run.

        Args:
            code: Exit code; a run with another one than 0 is marked as failed.
            trainer: Whose callbacks hold the pictures.
        """
        run, self._experiment = self._experiment, None
        if run is None or self.mode == "disabled":
            return
        try:
            if code == 0 and self._report_timestamp() != self._reported:
                from callbacks.dashboard.results import log_results

                log_results(run, self.run_dir, self.upload, trainer)
        except Exception as error:
            print(
                f"W&B: the results were not sent ({type(error).__name__}: {error}); they are in"
                f" {self.run_dir}",
                file=sys.stderr,
            )
        finally:
            session.finish_run(run, code, self._wait["end"])

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
        return session.init_run(
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
    """End a run's W&B loggers; arguments as of `Dashboard.close`."""
    for logger in loggers:
        if isinstance(logger, PrivateWandbLogger):
            logger.close(code, trainer)
