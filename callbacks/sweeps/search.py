"""Searches a space: asks the study for parameters, lets the launcher carry out the trials, tells the study how they ended."""

import sys
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock, Timeout
from hydra.types import HydraContext
from hydra.utils import instantiate
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl
from omegaconf import DictConfig, OmegaConf
from optuna.exceptions import ExperimentalWarning

from callbacks.running_trial import STUDY_FILE, has_ended
from callbacks.runs import outcome
from callbacks.sweeps.ended import check_no_foreign_runs, report_outcome
from callbacks.sweeps.job import Job, launch_jobs, stop_message
from callbacks.sweeps.space import SearchSpace, parse_space, quote_value, to_override
from callbacks.sweeps.study import format_progress, interrupted_trials, open_study
from callbacks.sweeps.words import format_value, short_names
from datamodules.refusal import UserError

DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {"max": "maximize", "min": "minimize"}
TRIAL_SUBDIR = "${hydra:job.num}"
RESUME_OVERRIDE = "resume=auto"
PRUNING_KEY = "callbacks.pruning"


class ResumableOptunaSweeper(OptunaSweeperImpl):
    """Hydra's Optuna sweeper, whose study goes on where it was stopped, and outlives trials that fail.

    Args:
        sampler: Configuration of a sampler of Optuna.
        pruner: Configuration of a pruner, or None.
        n_trials: In all.
        n_jobs: At a time, or None.
        params: Key -> what it is drawn from.
    """

    config: DictConfig
    hydra_context: HydraContext

    def __init__(
        self,
        sampler: DictConfig,
        pruner: DictConfig | None,
        n_trials: int,
        n_jobs: int | None,
        params: DictConfig | None,
    ) -> None:
        super().__init__(sampler, "maximize", None, None, n_trials, n_jobs or 1, 1.0, None, params)
        self.pruner = pruner
        self._requested_jobs = n_jobs

    def sweep(self, arguments: list[str]) -> None:
        """Carries out trials until `n_trials` have ended.

        Raises:
            Refusal: before any trial, for what cannot be searched.
            SystemExit: 130 after it was stopped; the same command goes on.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder = Path(self.config.hydra.sweep.dir).absolute()
        self._check_config()
        found = parse_space(self.params, arguments)
        words = [*self._pruning_override(), *found.fixed_overrides]
        self._check_composition(found, words)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / ".sweep.lock", timeout=0):
                self._run_study(found, words, folder)
        except Timeout:
            raise UserError(
                f"another process is sweeping in {folder}; wait for it, or name another"
                " hydra.sweep.dir=FOLDER"
            ) from None

    def _check_config(self) -> None:
        if self.n_trials < 1:
            raise UserError(
                f"hydra.sweeper.n_trials={self.n_trials} is no number of trials; take 1 or more"
            )
        if self._requested_jobs is not None and self._requested_jobs < 1:
            raise UserError(
                f"hydra.sweeper.n_jobs={self._requested_jobs} is no number of trials at a time; take 1"
                " or more, or null"
            )
        subdir = OmegaConf.to_container(self.config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index,call-overload]
        if subdir != TRIAL_SUBDIR:
            raise UserError(
                f"hydra.sweep.subdir={subdir}: the folders of a study are numbered; leave it out,"
                " and name their folder by hydra.sweep.dir"
            )
        if "GridSampler" in self.sampler._target_:
            raise UserError(
                "hydra/sweeper/sampler=grid is what hydra/sweeper=basic does; leave out"
                " hydra/sweeper=optuna and list the values"
            )

    def _pruning_override(self) -> list[str]:
        """What every trial is told besides, unless it is several fits: what may prune it."""
        if self.pruner is None or (self.config.folds and self.config.fold is None):
            return []
        about = {
            "_target_": "callbacks.pruning.OptunaPruning",
            "run_dir": "${paths.run}",
            "monitor": "${monitor.name}",
        }
        return [
            f"+{PRUNING_KEY}={quote_value(about | {'pruner': OmegaConf.to_container(self.pruner, resolve=True)})}"
        ]

    def _check_composition(self, space: SearchSpace, overrides: list[str]) -> None:
        """Lets Hydra refuse a key that does not exist before the first trial."""
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask()
        self.hydra_context.config_loader.load_sweep_config(
            self.config, [*overrides, *self._suggest_overrides(trial, space)]
        )

    def _suggest_overrides(self, trial: optuna.Trial, space: SearchSpace) -> list[str]:
        self._configure_trials([trial], space.distributions, {}, [])
        return [to_override(key, value) for key, value in trial.params.items()]

    def _run_study(self, space: SearchSpace, overrides: list[str], folder: Path) -> None:
        study = open_study(
            folder, space, DIRECTIONS[self.config.monitor.mode], self._build_sampler(0)
        )
        OmegaConf.save(self.config, folder / "multirun.yaml")
        for cut in interrupted_trials(study):
            report_outcome(
                study, Job(cut.number, [], folder)
            )  # it may have ended when the sweep was killed
        trials = study.get_trials(deepcopy=False)
        check_no_foreign_runs(folder, len(trials))
        study.sampler = self._build_sampler(len(trials))
        print(f"study: {folder / STUDY_FILE}: {format_progress(study, self.n_trials)}", flush=True)
        left = self.n_trials - sum(map(has_ended, trials))
        if left <= 0:
            print(
                "nothing is left to do; go on with a larger hydra.sweeper.n_trials than"
                f" {self.n_trials}"
            )
            return
        jobs = islice(self._iter_jobs(study, space, overrides, folder), left)
        if launch_jobs(
            self.launcher, jobs, self._requested_jobs, lambda job: report_outcome(study, job)
        ):
            print(stop_message(folder), file=sys.stderr)
            raise SystemExit(outcome.STOPPED)

    def _build_sampler(self, n_trials: int) -> Any:
        """A sampler that does not draw again what it drew for earlier trials."""
        warnings.filterwarnings("ignore", category=ExperimentalWarning)
        seed = {} if self.sampler.get("seed") is None else {"seed": self.sampler.seed + n_trials}
        return instantiate(
            self.sampler,
            _execution_whitelist_=("optuna.samplers.*", "hydra_plugins.hydra_optuna_sweeper.*"),
            **seed,
        )

    def _iter_jobs(
        self, study: optuna.Study, space: SearchSpace, overrides: list[str], folder: Path
    ) -> Iterator[Job]:
        """Trials that were cut off, then new ones, each asked for when there is a place for it."""
        for cut in interrupted_trials(study):
            yield self._build_job(
                optuna.Trial(study, cut._trial_id), space, [*overrides, RESUME_OVERRIDE], folder
            )
        while True:
            yield self._build_job(study.ask(), space, overrides, folder)

    def _build_job(
        self, trial: optuna.Trial, space: SearchSpace, overrides: list[str], folder: Path
    ) -> Job:
        drawn = self._suggest_overrides(trial, space)
        short = short_names(trial.params)
        return Job(
            trial.number,
            [*overrides, *drawn],
            folder,
            [f"{short[key]}={format_value(str(value))}" for key, value in trial.params.items()],
        )
