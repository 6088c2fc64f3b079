"""do=[wandb_sweep]: the search space as a W&B sweep, whose agents start runs."""

from pathlib import Path
from typing import Any

import yaml
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from datamodules.errors import UserError
from engine.sweeps.optuna_sweeper import DIRECTIONS, SearchSpace, parse_space

SWEEP_FILE = "sweep.yaml"
SWEEPER_KEYS = ("hydra/sweeper", "hydra.sweeper")
DROPPED_OVERRIDE_PREFIXES = ("do=", "logger=")
RUN_DIR_OVERRIDE = (  # unique, because agents may start in the same second
    "hydra.run.dir=${paths.runs}/${hydra:runtime.choices.experiment}/wandb-${oc.env:WANDB_RUN_ID}"
)


def write_wandb_sweep(cfg: DictConfig, run_dir: Path) -> Path:
    """Write sweep.yaml into the run folder and print the next command.

    Args:
        cfg: Configuration of the run.
        run_dir: The run folder.

    Raises:
        UserError: Nothing is searched, or a run would be several fits.
    """
    if cfg.folds and cfg.fold is None:
        raise UserError(
            f"folds={cfg.folds} gives several fits per run, but W&B compares single fits; set"
            " folds=0, or hydra/sweeper=optuna"
        )
    message = HydraConfig.get().overrides
    chosen = [word for word in message.hydra if word.lstrip("+~").startswith(SWEEPER_KEYS)]
    whole = compose(
        "run",
        ["hydra/sweeper=optuna", *chosen, *message.task, "logger=wandb"],
        return_hydra_config=True,
    )
    sweeper = whole.hydra.sweeper
    if not sweeper.params:
        line = "module.optimizer.lr: tag(log, interval(1e-4, 1e-2))"
        raise UserError(
            "do=[wandb_sweep] needs a space to search; add hparams_search=NAME, where"
            f" conf/hparams_search/NAME.yaml has a line for each key, such as {line}"
        )
    found = parse_space(
        sweeper.params,
        [word for word in message.task if not word.startswith(DROPPED_OVERRIDE_PREFIXES)],
    )
    path = run_dir / SWEEP_FILE
    head = (
        "# wandb sweep registers it; then start wandb agent, on one or more machines, in"
        " the folder of run.py.\n"
    )
    sweep = to_wandb_sweep(found, sweeper, cfg) | {"project": whole.logger.wandb.project}
    path.write_text(head + yaml.safe_dump(sweep, sort_keys=False, width=1000), encoding="utf-8")
    print(f"written: {path}; continue with: wandb sweep {path}")
    return path


def to_wandb_sweep(space: SearchSpace, sweeper: DictConfig, cfg: DictConfig) -> dict[str, Any]:
    """Convert a search space to a sweep of W&B.

    Args:
        space: Search space, with the overrides that every run has.
        sweeper: Configuration of hydra/sweeper=optuna with the number of runs and the pruner.
        cfg: Configuration of the run.
    """
    warm_up = 0 if sweeper.pruner is None else int(sweeper.pruner.get("n_warmup_steps") or 0)
    return {
        "name": str(cfg.title),
        "program": "run.py",
        "method": "bayes",
        "metric": {"name": cfg.monitor.name, "goal": DIRECTIONS[cfg.monitor.mode]},
        "run_cap": int(sweeper.n_trials),
        "parameters": {
            key: to_wandb_parameter(drawn) for key, drawn in space.distributions.items()
        },
        **(
            {}
            if sweeper.pruner is None
            else {"early_terminate": {"type": "hyperband", "min_iter": warm_up + 1}}
        ),
        "command": [
            "${env}",
            "python",
            "run.py",
            *space.fixed_overrides,
            "logger=wandb",
            RUN_DIR_OVERRIDE,
            "${args_no_hyphens}",
        ],
    }


def to_wandb_parameter(distribution: BaseDistribution) -> dict[str, Any]:
    """Convert a distribution to a parameter of W&B."""
    if isinstance(distribution, CategoricalDistribution):
        return {
            "values": ["null" if choice is None else choice for choice in distribution.choices]
        }  # agents write None as text
    if isinstance(distribution, IntDistribution) and distribution.step != 1:
        return {"values": list(range(distribution.low, distribution.high + 1, distribution.step))}
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise TypeError(f"{distribution} is none of Optuna's distributions")
    within = {"min": distribution.low, "max": distribution.high}
    if isinstance(distribution, IntDistribution):
        return {
            "distribution": "q_log_uniform_values" if distribution.log else "int_uniform",
            **within,
        } | ({"q": 1} if distribution.log else {})
    if distribution.step is not None:
        return {"distribution": "q_uniform", **within, "q": distribution.step}
    return {"distribution": "log_uniform_values" if distribution.log else "uniform", **within}
