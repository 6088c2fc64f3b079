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

from callbacks.runs import outcome
from callbacks.sweeps.ended import refuse_others, tell
from callbacks.sweeps.job import Job, carry_out, stopped
from callbacks.sweeps.space import Space, space, spoken, word
from callbacks.sweeps.study import NAME, cut_off, has_ended, open_study, progress
from callbacks.sweeps.words import short_names, shortened
from datamodules.refusal import Refusal

DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {"max": "maximize", "min": "minimize"}
SUBDIR = "${hydra:job.num}"
RESUME = "resume=auto"
PRUNING = "callbacks.pruning"


class Search(OptunaSweeperImpl):
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
        self._asked_jobs = n_jobs

    def sweep(self, arguments: list[str]) -> None:
        """Carries out trials until `n_trials` have ended.

        Raises:
            Refusal: before any trial, for what cannot be searched.
            SystemExit: 130 after it was stopped; the same command goes on.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder = Path(self.config.hydra.sweep.dir).absolute()
        self._refuse()
        found = space(self.params, arguments)
        words = [*self._own_words(), *found.fixed]
        self._compose_once(found, words)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / ".sweep.lock", timeout=0):
                self._carry_out(found, words, folder)
        except Timeout:
            raise Refusal(
                f"another process is sweeping in {folder}; wait for it, or name another"
                " hydra.sweep.dir=FOLDER"
            ) from None

    def _refuse(self) -> None:
        if self.n_trials < 1:
            raise Refusal(
                f"hydra.sweeper.n_trials={self.n_trials} is no number of trials; take 1 or more"
            )
        if self._asked_jobs is not None and self._asked_jobs < 1:
            raise Refusal(
                f"hydra.sweeper.n_jobs={self._asked_jobs} is no number of trials at a time; take 1"
                " or more, or null"
            )
        subdir = OmegaConf.to_container(self.config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index,call-overload]
        if subdir != SUBDIR:
            raise Refusal(
                f"hydra.sweep.subdir={subdir}: the folders of a study are numbered; leave it out,"
                " and name their folder by hydra.sweep.dir"
            )
        if "GridSampler" in self.sampler._target_:
            raise Refusal(
                "hydra/sweeper/sampler=grid is what hydra/sweeper=basic does; leave out"
                " hydra/sweeper=optuna and list the values"
            )

    def _own_words(self) -> list[str]:
        """What every trial is told besides, unless it is several fits: what may prune it."""
        if self.pruner is None or (self.config.folds and self.config.fold is None):
            return []
        about = {
            "_target_": "callbacks.pruning.Pruning",
            "run_dir": "${paths.run}",
            "monitor": "${monitor.name}",
        }
        return [
            f"+{PRUNING}={word(about | {'pruner': OmegaConf.to_container(self.pruner, resolve=True)})}"
        ]

    def _compose_once(self, found: Space, words: list[str]) -> None:
        """Lets Hydra refuse a key that does not exist before the first trial."""
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask()
        self.hydra_context.config_loader.load_sweep_config(
            self.config, [*words, *self._drawn(trial, found)]
        )

    def _drawn(self, trial: optuna.Trial, found: Space) -> list[str]:
        self._configure_trials([trial], found.searched, {}, [])
        return [spoken(key, value) for key, value in trial.params.items()]

    def _carry_out(self, found: Space, words: list[str], folder: Path) -> None:
        study = open_study(folder, found, DIRECTIONS[self.config.monitor.mode], self._sampler(0))
        OmegaConf.save(self.config, folder / "multirun.yaml")
        for cut in cut_off(study):
            tell(study, Job(cut.number, [], folder))  # it may have ended when the sweep was killed
        trials = study.get_trials(deepcopy=False)
        refuse_others(folder, len(trials))
        study.sampler = self._sampler(len(trials))
        print(f"study: {folder / NAME}: {progress(study, self.n_trials)}", flush=True)
        left = self.n_trials - sum(map(has_ended, trials))
        if left <= 0:
            print(
                "nothing is left to do; go on with a larger hydra.sweeper.n_trials than"
                f" {self.n_trials}"
            )
            return
        jobs = islice(self._jobs(study, found, words, folder), left)
        if carry_out(self.launcher, jobs, self._asked_jobs, lambda job: tell(study, job)):
            print(stopped(folder), file=sys.stderr)
            raise SystemExit(outcome.STOPPED)

    def _sampler(self, trials: int) -> Any:
        """A sampler that does not draw again what it drew for earlier trials."""
        warnings.filterwarnings("ignore", category=ExperimentalWarning)
        seed = {} if self.sampler.get("seed") is None else {"seed": self.sampler.seed + trials}
        return instantiate(
            self.sampler,
            _execution_whitelist_=("optuna.samplers.*", "hydra_plugins.hydra_optuna_sweeper.*"),
            **seed,
        )

    def _jobs(
        self, study: optuna.Study, found: Space, words: list[str], folder: Path
    ) -> Iterator[Job]:
        """Trials that were cut off, then new ones, each asked for when there is a place for it."""
        for cut in cut_off(study):
            yield self._job(optuna.Trial(study, cut._trial_id), found, [*words, RESUME], folder)
        while True:
            yield self._job(study.ask(), found, words, folder)

    def _job(self, trial: optuna.Trial, found: Space, words: list[str], folder: Path) -> Job:
        drawn = self._drawn(trial, found)
        short = short_names(trial.params)
        return Job(
            trial.number,
            [*words, *drawn],
            folder,
            [f"{short[key]}={shortened(str(value))}" for key, value in trial.params.items()],
        )
