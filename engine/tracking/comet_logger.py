"""Comet logger that sends numbers and settings, and neither code, host, output nor files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CometLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from datamodules.arguments import FilePath, validated
from engine.tracking.identity import chosen_experiment
from engine.tracking.settings import describe_run
from reporting.commands import relative_to_cwd

# Everything that Comet would gather by itself.
PRIVATE_SETTINGS: dict[str, Any] = {
    "log_code": False,
    "log_graph": False,
    "parse_args": False,
    "log_git_metadata": False,
    "log_git_patch": False,
    "log_env_details": False,
    "log_env_gpu": False,
    "log_env_host": False,
    "log_env_cpu": False,
    "log_env_network": False,
    "log_env_disk": False,
    "auto_output_logging": "",  # Comet takes any other word for yes
    "auto_param_logging": False,
    "auto_metric_logging": False,
    "auto_log_co2": False,
    "display_summary_level": 0,
}


@validated
class PrivateCometLogger(CometLogger):
    """A run of Comet, offline unless it is asked for; its parameters name no files.

    Example:
        logger: {comet: {run_dir: "${paths.run}", project: my-project, online: false}}

    Args:
        run_dir: The run folder; its config.yaml is the configuration that is shown, and a run that
            is kept offline is written below it.
        project: On Comet.
        experiment: Its name in the menu; None for the one that was chosen.
        workspace: On Comet; None for the default of the key.
        online: Send it to Comet; without a key, or without an answer, it is kept offline.
        tags: On Comet.
    """

    def __init__(
        self,
        run_dir: FilePath,
        project: str,
        experiment: str | None = None,
        workspace: str | None = None,
        online: bool = False,
        tags: Sequence[str] = (),
    ) -> None:
        os.environ["COMET_ERROR_TRACKING_ENABLE"] = "false"  # Comet's reports of its own errors
        os.environ["COMET_LOGGING_CONSOLE"] = "ERROR"
        self.run_dir, self._chosen = Path(run_dir), experiment or chosen_experiment()
        self._started = False
        super().__init__(
            project=project,
            workspace=workspace,
            online=online,
            offline_directory=str(self.run_dir / "comet"),
            tags=list(tags),
            **PRIVATE_SETTINGS,
        )

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers; before the first ones, name the run and log its configuration."""
        if not self._started:
            self._started = True
            identity, settings = describe_run(self.run_dir, self._chosen)
            self.experiment.set_name(identity.name)
            self.experiment.log_others(
                {"experiment": self._chosen, "group": identity.group, "job_type": identity.job_type}
            )
            self.log_hyperparams(settings)
        super().log_metrics(metrics, step)

    def close(self, code: int) -> None:
        """End the run, and print where it is if it was kept offline.

        Args:
            code: Exit code; a run with another one than 0 is marked as failed.
        """
        if self._experiment is None:
            return
        self._experiment.log_other("outcome", "failed" if code else "finished")
        self._experiment.end()
        self._experiment = None
        for archive in sorted((self.run_dir / "comet").glob("*.zip")):
            print(
                f"Comet: kept offline; comet upload {relative_to_cwd(archive)} sends it", flush=True
            )

    def _create_experiment(self) -> None:
        """Start the run; offline where Comet has no key, or does not answer."""
        import comet_ml

        # Lightning disables an offline run, so that nothing would be written
        self._comet_config = comet_ml.ExperimentConfig(**self._kwargs)
        if self._online and not self._has_key():
            print("Comet: no key found (comet login), so this run is kept offline", flush=True)
            self._online = False
        try:
            super()._create_experiment()
        except Exception as error:  # a server, a proxy, a key: training continues
            if not self._online:
                raise
            said = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            print(f"Comet: no run can be started there ({said}), so it is kept offline", flush=True)
            self._online = False
            super()._create_experiment()

    def _has_key(self) -> bool:
        import comet_ml

        return bool(self._api_key or comet_ml.get_config("comet.api_key"))
