"""Optuna sweeper that resumes an interrupted study."""

import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import optuna
from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ParsedElementType, QuotedString, Transformer
from hydra.types import HydraContext
from hydra.utils import instantiate
from hydra_plugins.hydra_optuna_sweeper._impl import (
    OptunaSweeperImpl,
    create_optuna_distribution_from_override,
)
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from datamodules.arguments import PositiveInt, check_value
from datamodules.errors import UserError
from engine.sweeps.process_launcher import Job, launch_jobs, stop_message
from reporting.commands import quote_value, to_override
from reporting.config_diff import REPLICATE_KEYS, format_value, short_names
from reporting.optuna_study import ENDED_STATES, STUDY_FILE, STUDY_NAME, has_ended, open_storage
from reporting.outcome import STOPPED, read_outcome_if_valid, settle_outcome

UNSEARCHABLE_KEYS = (*REPLICATE_KEYS, "datamodule.seed")
SPACE_KEY = "hparams_search"
EXAMPLE_OVERRIDE = "'module.optimizer.lr=tag(log,interval(1e-4,1e-2))'"


@dataclass(frozen=True)
class SearchSpace:
    """Search space of one experiment.

    Attributes:
        distributions: Key -> its distribution.
        fixed_overrides: Overrides of every trial.
    """

    distributions: dict[str, BaseDistribution]
    fixed_overrides: list[str]


def parse_space(params: Mapping[str, str] | None, overrides: Sequence[str]) -> SearchSpace:
    """Combine the space of `hparams_search=NAME` with the overrides of the command line.

    `KEY=interval(a,b)` is searched, `KEY=value` fixed, `~KEY` left out.

    Args:
        params: Key -> its distribution, in Hydra's grammar of sweeps.
        overrides: Overrides of the command line.

    Raises:
        UserError: Nothing is searched, or an override cannot be searched.
    """
    searched: dict[str, BaseDistribution] = {}
    fixed: dict[str, str] = {}
    experiment = "this experiment"
    for override, word in _parse_overrides(
        [*(f"{key}={drawn}" for key, drawn in (params or {}).items()), *overrides]
    ):
        key = override.get_key_element()
        same = next(
            (other for other in searched if _strip_prefix(other) == _strip_prefix(key)), None
        )
        if override.is_sweep_override():
            if key == SPACE_KEY:
                raise UserError(f"{word}: a study searches one space; name one of them")
            if key == "experiment":
                raise UserError(
                    f"{word}: a study searches one experiment; set hydra/sweeper=basic to run"
                    " several of them"
                )
            if _strip_prefix(key) in UNSEARCHABLE_KEYS:
                raise UserError(
                    f"{word}: the best of several {_strip_prefix(key)}s would be luck; set"
                    " folds=5 in each trial, or hydra/sweeper=basic"
                )
            searched.pop(same or "", None)
            fixed.pop(_strip_prefix(key), None)
            searched[key] = _parse_distribution(override, word)
        elif same is None or not override.is_delete():
            searched.pop(same or "", None)
            fixed[_strip_prefix(key) if not override.is_delete() else word] = word
        else:
            searched.pop(same)
        experiment = (
            word if key == "experiment" and not override.is_sweep_override() else experiment
        )
    if not searched:
        raise UserError(
            f"no override of {experiment} says what to search; add hparams_search=NAME (a file of"
            f" conf/hparams_search), or an override such as {EXAMPLE_OVERRIDE}"
        )
    return SearchSpace(searched, list(fixed.values()))


def _parse_overrides(overrides: Sequence[str]) -> Iterator[tuple[Override, str]]:
    parser = OverridesParser.create()
    return ((parser.parse_override(word), word) for word in overrides)


def _strip_prefix(key: str) -> str:
    return key.lstrip("+~")


def _parse_distribution(override: Override, text: str) -> BaseDistribution:
    if override.is_choice_sweep():
        choices: list[Any] = list(override.sweep_iterator(transformer=_to_choice))
        return CategoricalDistribution(choices)
    try:
        return create_optuna_distribution_from_override(override)
    except (AssertionError, ValueError, NotImplementedError) as error:
        message = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"{text} is not a search space ({message}); write it like {EXAMPLE_OVERRIDE},"
            " or choice(a,b)"
        ) from error


def _to_choice(value: ParsedElementType) -> Any:
    """Return a value for Optuna; Hydra's own conversion would change null to the text "null"."""
    if isinstance(value, QuotedString):
        return value.text
    return None if value is None else Transformer.encode(value)


def describe_distribution(distribution: BaseDistribution) -> str:
    """Describe a distribution, such as `0.0001 to 0.01, log` or `4, 8, 16`."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join("null" if one is None else str(one) for one in distribution.choices)
    if isinstance(distribution, FloatDistribution | IntDistribution):
        step = (
            distribution.step
            if distribution.step is not None
            and (isinstance(distribution, FloatDistribution) or distribution.step != 1)
            else None
        )
        return (
            f"{distribution.low:g} to {distribution.high:g}"
            + (", log" if distribution.log else "")
            + (f", in steps of {step:g}" if step else "")
        )
    return str(distribution)


SIGNATURE_ATTRIBUTE = "searches"
IGNORED_OVERRIDE_PREFIXES = (
    "title=",
    "logger=",
    "logger.",
    "paths.",
    "trainer.enable_progress_bar=",
    "trainer.enable_model_summary=",
    "resume=",
)


def open_study(
    folder: Path,
    space: SearchSpace,
    direction: Literal["maximize", "minimize"],
    sampler: BaseSampler,
) -> optuna.Study:
    """Open the study of a sweep, or create it.

    Args:
        folder: Folder of the sweep.
        space: Search space of this command.
        direction: Direction of the score.
        sampler: Sampler of Optuna.

    Raises:
        UserError: The existing study has another search space, or the file is not a study.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        study = optuna.create_study(
            storage=open_storage(folder, create=True),
            sampler=sampler,
            study_name=STUDY_NAME,
            direction=direction,
            load_if_exists=True,
        )
    except (SQLAlchemyError, RuntimeError) as error:
        message = str(error).splitlines()[0]
        raise UserError(
            f"{folder / STUDY_FILE} cannot be read as a study ({message}); name another"
            " hydra.sweep.dir=FOLDER"
        ) from error
    now = study_signature(space, direction)
    made = study.user_attrs.get(SIGNATURE_ATTRIBUTE)
    if made is None:
        study.set_user_attr(SIGNATURE_ATTRIBUTE, now)
    elif differs := _signature_difference(made, now):
        fix = "use the overrides of that study, or start another one with hydra.sweep.dir=FOLDER"
        raise UserError(
            f"the study in {folder} has {differs[0]}, and this command has {differs[1]}; {fix}"
        )
    return study


def study_signature(space: SearchSpace, direction: str) -> dict[str, Any]:
    """Return the settings that identify a study, as JSON values."""
    fixed = sorted(
        word
        for word in space.fixed_overrides
        if not word.lstrip("+~").startswith(IGNORED_OVERRIDE_PREFIXES)
    )
    return {
        "direction": direction,
        "space": {key: distribution_to_json(drawn) for key, drawn in space.distributions.items()},
        "fixed": fixed,
    }


def _signature_difference(
    stored: dict[str, Any], requested: dict[str, Any]
) -> tuple[str, str] | None:
    """Return a difference as the study's and the command's settings; None if they are equal."""
    if stored["direction"] != requested["direction"]:
        return f"a score to {stored['direction']}", f"one to {requested['direction']}"
    for key in dict.fromkeys([*stored["space"], *requested["space"]]):
        then, here = (
            _describe_stored_distribution(of["space"].get(key)) for of in (stored, requested)
        )
        if then != here:
            return f"{key} {then}", f"it {here}"
    then, here = (
        _overrides_only_in_first(of["fixed"], other["fixed"])
        for of, other in ((stored, requested), (requested, stored))
    )
    return None if then == here else (then, here)


def _describe_stored_distribution(serialized: str | None) -> str:
    return (
        "not searched"
        if serialized is None
        else f"from {describe_distribution(json_to_distribution(serialized))}"
    )


def _overrides_only_in_first(overrides: list[str], others: list[str]) -> str:
    return " ".join(word for word in overrides if word not in others) or "no such word"


def format_progress(study: optuna.Study, n_trials: int) -> str:
    """Format the number of ended trials by their outcome."""
    counted = Counter(trial.state for trial in study.get_trials(deepcopy=False))
    ended = sum(counted[state] for state in ENDED_STATES)
    names = {
        TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    how = ", ".join(f"{counted[state]} {name}" for state, name in names.items() if counted[state])
    open_ = (
        f"; {counted[TrialState.RUNNING]} interrupted, to be resumed"
        if counted[TrialState.RUNNING] and ended < n_trials
        else ""
    )
    return f"{ended} of {n_trials} trials ended" + (f" ({how})" if how else "") + open_


def interrupted_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that an earlier command began and that have not ended in the study."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def check_no_foreign_runs(folder: Path, n_trials: int) -> None:
    """Refuse a folder that holds runs of another sweep.

    They must not be overwritten or resumed with other values.
    """
    others = [
        path.name
        for path in folder.iterdir()
        if path.name.isdecimal() and int(path.name) >= n_trials and (path / "checkpoints").is_dir()
    ]
    if others:
        raise UserError(
            f"{folder} holds runs that are not in its study, such as {min(others, key=int)};"
            " name another hydra.sweep.dir=FOLDER"
        )


def report_outcome(study: optuna.Study, job: Job) -> None:
    """Report the outcome of a trial's folder to the study, unless the trial was stopped."""
    outcome = read_outcome_if_valid(job.folder)
    if outcome is None or not outcome.has_ended:
        return
    if outcome.status == "pruned":
        study.tell(job.number, state=TrialState.PRUNED)
    elif outcome.status == "finished" and outcome.score is not None:
        study.tell(job.number, outcome.score)
    else:
        reason = "it has no score; do= must contain fit, and monitor.name be logged"
        settle_outcome(job.folder, 0, reason)
        study.tell(job.number, state=TrialState.FAIL)


DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {"max": "maximize", "min": "minimize"}
TRIAL_SUBDIR = "${hydra:job.num}"
RESUME_OVERRIDE = "resume=auto"
PRUNING_KEY = "callbacks.pruning"


class ResumableOptunaSweeper(OptunaSweeperImpl):
    """Hydra's Optuna sweeper with a study that resumes after a stop and survives failed trials.

    Args:
        sampler: Configuration of a sampler of Optuna.
        pruner: Configuration of a pruner, or None.
        n_trials: Total number of trials.
        n_jobs: Number of trials at a time, or None.
        params: Key -> its distribution, in Hydra's grammar of sweeps.
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
        """Run trials until `n_trials` have ended.

        Raises:
            UserError: The search space is invalid; this is raised before any trial.
            SystemExit: 130 after it was stopped; the same command resumes it.
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
                f"another process runs a sweep in {folder}; wait for it, or name another"
                " hydra.sweep.dir=FOLDER"
            ) from None

    def _check_config(self) -> None:
        check_value("hydra.sweeper.n_trials", self.n_trials, PositiveInt)
        check_value("hydra.sweeper.n_jobs", self._requested_jobs, PositiveInt | None)
        subdir = OmegaConf.to_container(self.config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index,call-overload]
        if subdir != TRIAL_SUBDIR:
            raise UserError(
                f"hydra.sweep.subdir={subdir}: the folders of a study are numbered; remove it,"
                " and set their parent folder with hydra.sweep.dir"
            )
        if "GridSampler" in self.sampler._target_:
            raise UserError(
                "hydra/sweeper/sampler=grid is the same as hydra/sweeper=basic; remove"
                " hydra/sweeper=optuna and list the values"
            )

    def _pruning_override(self) -> list[str]:
        """Return the override that adds pruning to each trial.

        There is none without a pruner, or if a trial is several fits.
        """
        if self.pruner is None or (self.config.folds and self.config.fold is None):
            return []
        about = {
            "_target_": "callbacks.optuna_pruning.OptunaPruning",
            "run_dir": "${paths.run}",
            "monitor": "${monitor.name}",
        }
        return [
            f"+{PRUNING_KEY}="
            f"{quote_value(about | {'pruner': OmegaConf.to_container(self.pruner, resolve=True)})}"
        ]

    def _check_composition(self, space: SearchSpace, overrides: list[str]) -> None:
        """Compose one configuration, so that Hydra refuses unknown keys before the first trial."""
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
            )  # it may have ended before the sweep was killed
        trials = study.get_trials(deepcopy=False)
        check_no_foreign_runs(folder, len(trials))
        study.sampler = self._build_sampler(len(trials))
        print(f"study: {folder / STUDY_FILE}: {format_progress(study, self.n_trials)}", flush=True)
        left = self.n_trials - sum(map(has_ended, trials))
        if left <= 0:
            print(
                f"all {self.n_trials} trials have ended; continue with a larger"
                " hydra.sweeper.n_trials"
            )
            return
        jobs = islice(self._iter_jobs(study, space, overrides, folder), left)
        if launch_jobs(
            self.launcher, jobs, self._requested_jobs, lambda job: report_outcome(study, job)
        ):
            print(stop_message(folder), file=sys.stderr)
            raise SystemExit(STOPPED)

    def _build_sampler(self, n_trials: int) -> Any:
        """Build a sampler that does not repeat the samples of earlier trials."""
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
        """Yield interrupted trials, then new ones, each when a slot is free."""
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
