"""MLflow logger that records numbers and settings, and neither user, code nor files."""

import os
from collections.abc import Mapping
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from datamodules.arguments import FilePath, validated
from engine.tracking.identity import chosen_experiment
from engine.tracking.settings import describe_run

# MLflow finds these out by itself, unless a run states them; user and source name folders.
PRIVATE_TAGS = {
    name: ""
    for name in (
        "mlflow.user",
        "mlflow.source.name",
        "mlflow.source.type",
        "mlflow.source.git.commit",
        "mlflow.source.git.branch",
        "mlflow.source.git.repoURL",
    )
}


@validated
class PrivateMLFlowLogger(MLFlowLogger):
    """A run of MLflow; its parameters are the configuration without names of files.

    Example:
        logger: {mlflow: {run_dir: "${paths.run}", tracking_uri: "sqlite:///runs/mlflow.db"}}

    Args:
        run_dir: The run folder; its config.yaml is the configuration that is shown.
        tracking_uri: A database, or the address of a server.
        experiment: Name of the experiment in MLflow; None for the one that was chosen.
        tags: Of the run.
    """

    def __init__(
        self,
        run_dir: FilePath,
        tracking_uri: str,
        experiment: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # MLflow's own statistics of its use
        self.run_dir, self._chosen = run_dir, experiment or chosen_experiment()
        self._has_settings = False
        super().__init__(
            experiment_name=self._chosen,
            tracking_uri=tracking_uri,
            tags=PRIVATE_TAGS | dict(tags or {}),
            log_model=False,
        )

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """MLflow's client; the first access starts the run under its name."""
        if not self._initialized:
            identity, _ = describe_run(self.run_dir, self._chosen)
            self._run_name = identity.name
            own = {"group": identity.group or "", "job_type": identity.job_type}
            self.tags = own | (self.tags or {})
        return super().experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers; the first ones log the configuration too."""
        if not self._has_settings:
            self._has_settings = True
            self.log_hyperparams(describe_run(self.run_dir, self._chosen)[1])
        super().log_metrics(metrics, step)
