"""Runs the steps of one run: load weights, fit, test at the rule found on val, predict."""

import sys
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from omegaconf import DictConfig

from callbacks.rule_search import ThresholdSearchCallback
from callbacks.runs import resume
from callbacks.runs.named_checkpoints import find_start_checkpoint, resolve_checkpoint
from callbacks.sweeps.ensembled import EnsembleReport
from callbacks.sweeps.ensembling import FoldEnsemble, ensemble_key
from datamodules.base import ManifestDataModule
from datamodules.refusal import UserError
from lightning_modules import checkpoints
from lightning_modules.supervised import SupervisedModule
from lightning_modules.together import Ensemble, load_members, top_checkpoints


def run_stages(
    cfg: DictConfig,
    trainer: Trainer,
    module: SupervisedModule,
    data: ManifestDataModule,
    ensemble: FoldEnsemble | None = None,
) -> float | None:
    """Run `cfg.do`, an ensemble with all its networks; return the monitored score of a fit."""
    own = resume.find_resume_checkpoint(cfg)
    start = find_start_checkpoint(cfg)
    if start:
        fits = "fit" in cfg.do  # then the checkpoint was compared before, see one_run.goes_on
        checkpoint = (
            checkpoints.read_metadata(start) if fits else checkpoints.read_checkpoint(start)
        )
        if not fits:
            checkpoints.check_fit(module, checkpoint, start)
        if start.resolve().is_relative_to(Path(cfg.paths.run).resolve()):
            resume.restore_metrics_csv(
                trainer, Path(cfg.paths.run), checkpoint["global_step"] if "fit" in cfg.do else None
            )
    begin = None if own else resolve_checkpoint(cfg, "init_from")
    # of an ensemble the first network, whose grey values and frozen weights all members share
    if begin:
        whole = checkpoints.load_weights(module, begin)
        if not whole and not start and "fit" not in cfg.do:
            part = f"init_from={cfg.init_from} gives its body alone"
            raise UserError(
                f"do=[{cfg.do[0]}] needs a trained network, and {part}; name a run folder or a"
                " checkpoint with ckpt_path=..."
            )
    score = None
    if "fit" in cfg.do:
        trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
        best = getattr(trainer.checkpoint_callback, "best_model_score", None)
        score = trainer.callback_metrics.get(cfg.monitor.name) if best is None else best
        start = Path(getattr(trainer.checkpoint_callback, "best_model_path", None) or "")
        start = start if start.is_file() else None
    if ensemble is not None:
        _evaluate_ensemble(cfg, trainer, module, data, ensemble)
    elif cfg.do[-1] != "fit":
        _evaluate(cfg, trainer, module, data, start)
    return None if score is None else float(score)


def _evaluate(
    cfg: DictConfig,
    trainer: Trainer,
    module: SupervisedModule,
    data: ManifestDataModule,
    start: Path | None,
) -> None:
    """Test and predict with the weights of `start`, or those of the module."""
    changed = cfg.tta != "none" or cfg.average > 1
    if start is not None:
        checkpoints.adopt_image_size(data, start)
    if changed:
        _build_ensemble(cfg, module, start)
        start = None
    if "test" in cfg.do and (
        "fit" in cfg.do or changed
    ):  # the rule belongs to the weights and to how they are used
        trainer.validate(module, datamodule=data, ckpt_path=start, weights_only=True, verbose=False)
    elif changed and data.can_validate:
        trainer.validate(module, datamodule=data, verbose=False)
    elif changed:
        print(
            "a folder has no truth to search a rule by: the run's own is used, though it was"
            " searched for another inference",
            file=sys.stderr,
        )
    if "test" in cfg.do:
        trainer.test(module, datamodule=data, ckpt_path=start, weights_only=True, verbose=False)
    if "predict" in cfg.do:
        trainer.predict(
            module, datamodule=data, return_predictions=False, ckpt_path=start, weights_only=True
        )


def _evaluate_ensemble(
    cfg: DictConfig,
    trainer: Trainer,
    module: SupervisedModule,
    data: ManifestDataModule,
    ensemble: FoldEnsemble,
) -> None:
    """Test and predict with the networks of several folds together.

    Most of them were trained on val, so nothing is evaluated on it.
    """
    paths = ensemble.checkpoints
    module.load_state_dict(checkpoints.read_checkpoint(paths[0])["state_dict"])
    checkpoints.adopt_image_size(data, paths[0])
    if "test" in cfg.do and not data.allow_leaks:
        ensemble.check_not_trained_on(
            data.table.rows["id"][data.table.rows["split"] == "test"].tolist(), data.root
        )
    module.net = Ensemble(
        load_members(module, paths, "name folds of one experiment"), flip=cfg.tta == "hflip"
    )
    told = EnsembleReport(ensemble, cfg.tta == "hflip")
    told.find_rule(trainer, module)
    trainer.callbacks.append(told)  # type: ignore[attr-defined]
    if "test" in cfg.do:
        trainer.test(module, datamodule=data, verbose=False)
    if "predict" in cfg.do:
        trainer.predict(module, datamodule=data, return_predictions=False)


def _build_ensemble(cfg: DictConfig, module: SupervisedModule, start: Path | None) -> None:
    """Combine several checkpoints, and mirrored views, into one network.

    The rule is that of the best checkpoint until another is found.
    """
    if start is not None:
        module.load_state_dict(checkpoints.read_checkpoint(start)["state_dict"])
    nets = [module.net]
    if cfg.average > 1:
        nets = load_members(
            module,
            top_checkpoints(start, cfg.average),
            f"take average=1 instead of average={cfg.average}",
        )
    module.net = Ensemble(nets, flip=cfg.tta == "hflip")


def check_stages(cfg: DictConfig, callbacks: dict[str, Any]) -> None:
    """Refuse steps that cannot work, before any image is read.

    Args:
        cfg: Configuration of the run.
        callbacks: Callbacks by their names in conf.

    Raises:
        Refusal: The sentence names the key.
    """
    if "predict" in cfg.do and not any(
        type(callback).on_predict_end is not Callback.on_predict_end
        for callback in callbacks.values()
    ):
        raise UserError(
            "do=[predict] would write nothing without the callback predictions; take"
            " callbacks=[...,predictions]"
        )
    if ensemble_key(cfg) and not any(
        isinstance(callback, ThresholdSearchCallback) for callback in callbacks.values()
    ):
        raise UserError(
            f"{ensemble_key(cfg)} names several networks, which need one rule; take"
            " callbacks=[...,threshold_search] or label_threshold"
        )
    kept = getattr(callbacks.get("top_checkpoints"), "save_top_k", 0)
    if "fit" in cfg.do and cfg.average > 1 and kept != cfg.average:
        mend = (
            "take callbacks=[...,top_checkpoints]"
            f" callbacks.top_checkpoints.save_top_k={cfg.average}"
        )
        raise UserError(
            f"average={cfg.average} needs {cfg.average} checkpoints, and this fit would keep {kept}"
            f" of its best ones; {mend}"
        )
