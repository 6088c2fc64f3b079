"""hydra/sweeper=optuna: Hydra's Optuna sweeper with a study that can be continued.

This module imports nothing heavy, because Hydra loads it before every run.
"""

from typing import TYPE_CHECKING, Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from engine.sweeps.optuna_sweeper import ResumableOptunaSweeper


class StudySweeper(Sweeper):
    """Hydra sweeper that searches with Optuna, see `engine/sweeps/optuna_sweeper.py`.

    Example:
        hydra: {sweeper: {_target_: hydra_plugins.medical_lightning.optuna_sweeper.StudySweeper,
            n_trials: 20}}

    Args:
        sampler: Configuration of a sampler of Optuna.
        pruner: Configuration of a pruner of Optuna; None prunes nothing.
        n_trials: Total number of trials, including those of earlier commands in the same folder.
        n_jobs: Number of trials at a time; None leaves it to the launcher.
        params: Key -> the values that it is sampled from.
    """

    def __init__(
        self,
        sampler: DictConfig,
        pruner: DictConfig | None,
        n_trials: int,
        n_jobs: int | None,
        params: DictConfig | None,
    ) -> None:
        self._arguments: dict[str, Any] = {
            "sampler": sampler,
            "pruner": pruner,
            "n_trials": n_trials,
            "n_jobs": n_jobs,
            "params": params,
        }
        self._search: ResumableOptunaSweeper | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Create the sweeper; meanwhile the launcher starts its imports."""
        from engine.sweeps.optuna_sweeper import ResumableOptunaSweeper

        self._search = ResumableOptunaSweeper(**self._arguments)
        self._search.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> None:
        """Run all trials."""
        if self._search is not None:
            self._search.sweep(arguments)
