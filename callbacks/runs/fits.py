"""Runs one fit, one per fold with a merged report, or earlier folds as an ensemble."""

from pathlib import Path

from omegaconf import DictConfig

from callbacks.runs import outcome
from callbacks.runs.launched import rank
from callbacks.runs.one_run import run_experiment
from callbacks.sweeps.ensembling import load_ensemble
from callbacks.sweeps.merged import merge_run_folds
from datamodules.refusal import UserError


def run_folds(cfg: DictConfig, judges: bool) -> float | None:
    """Run fit, test and predict for one network, `folds` of them, or an ensemble.

    Args:
        cfg: Configuration of the run.
        judges: Whether the data has a truth to evaluate against.

    Returns:
        The monitored score of a fit, the mean of several.

    Raises:
        Refusal: Several fits cannot start from one checkpoint, or an ensemble cannot be made.
    """
    ensemble = load_ensemble(cfg)
    if ensemble is not None:
        cfg.title = f"{cfg.title}, ensemble of {len(ensemble.members)} networks"
        return run_experiment(cfg, ensemble)
    if not (cfg.folds and cfg.fold is None and judges):
        return run_experiment(cfg)
    if cfg.ckpt_path or "fit" not in cfg.do:
        raise UserError(
            f"folds={cfg.folds} makes {cfg.folds} fits, which cannot all start from one checkpoint;"
            " go on with one of them by fold=i ckpt_path=..."
        )
    return _run_each_fold(cfg)


def _run_each_fold(cfg: DictConfig) -> float | None:
    scores, folder, note = [], Path(cfg.paths.run), ""
    for fold in range(cfg.folds):
        one = cfg.copy()
        one.fold, one.paths.run, one.title = (
            fold,
            str(folder / f"fold{fold}"),
            f"{cfg.title}, fold {fold} of {cfg.folds}",
        )
        before = str(one.title)
        scores.append(run_experiment(one))
        note = note or str(one.title).removeprefix(before)
    if "test" in cfg.do and not cfg.trainer.fast_dev_run:
        merge_run_folds(folder, cfg.folds, f"{cfg.title}{note}")
    known = [score for score in scores if score is not None]
    mean = sum(known) / len(known) if known else None
    if rank() == 0:
        outcome.write_outcome(folder, mean)
    return mean
