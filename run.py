"""Compose one experiment and carry out what `do` says: python run.py experiment=NAME."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer
    from omegaconf import DictConfig

    from datamodules.base import ManifestDataModule

CONF = Path(__file__).parent / "conf"
WHITELIST = (  # a callable that a target returns counts as a target too, so networks and pipelines stand here
    "datamodules.*", "lightning_modules.*", "callbacks.*", "lightning.*", "torch.*", "albumentations.*", "segmentation_models_pytorch.*", "timm.*"
)


def menu() -> str:
    """The experiments with their one-line descriptions, and how to go on from there."""
    lines = ["python run.py experiment=NAME [key=value ...]      (-m for a sweep)", "", "experiments:"]
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        said = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ") and "@package" not in line]
        lines.append(f"  {path.stem:<24}{said[0] if said else ''}")
    lines += [
        "",
        "  scale=demo              any of them on phantoms, in minutes on a CPU",
        "  do=[test] ckpt_path=RUN evaluate again;  ckpt_path=RUN go on exactly;  init_from=RUN its weights alone",
        "  folds=5                 five fits, one out-of-fold report",
        "  experiment=NAME --cfg job    every key and its value",
    ]
    return "\n".join(lines)


def carry_out(cfg: "DictConfig") -> float | None:
    """One run, or one run a fold; returns the monitored score."""
    if cfg.folds and cfg.fold is None:
        return _folds(cfg)
    return _run(cfg)


def _folds(cfg: "DictConfig") -> float | None:
    from callbacks.report.out_of_fold import merge

    scores, folder = [], Path(cfg.paths.run)
    for fold in range(cfg.folds):
        one = cfg.copy()
        one.fold, one.paths.run, one.title = fold, str(folder / f"fold{fold}"), f"{cfg.title}, fold {fold} of {cfg.folds}"
        scores.append(_run(one))
    if "test" in cfg.do and not cfg.trainer.fast_dev_run:
        merge(folder, cfg.folds, str(cfg.title))
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None


def _run(cfg: "DictConfig") -> float | None:
    import torch
    from hydra.utils import instantiate
    from lightning import seed_everything
    from omegaconf import OmegaConf

    from lightning_modules.precision import best_precision

    if cfg.trainer.precision == "auto":
        cfg.trainer.precision = best_precision(cfg.trainer.accelerator)
    Path(cfg.paths.run).mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, Path(cfg.paths.run) / "config.yaml", resolve=True)
    seed_everything(cfg.seed, workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")

    def make(part: Any, **more: Any) -> Any:
        return instantiate(part, _convert_="all", _execution_whitelist_=WHITELIST, **more)

    data = make(cfg.datamodule)
    data.prepare_data()  # the data is checked before a network is built
    module = make(cfg.module)
    trainer = make(cfg.trainer, callbacks=[make(part) for part in cfg.callbacks.values()], logger=[make(part) for part in cfg.logger.values()])
    return _steps(cfg, trainer, module, data)


def _steps(cfg: "DictConfig", trainer: "Trainer", module: "LightningModule", data: "ManifestDataModule") -> float | None:
    from datamodules.refusal import Refusal
    from lightning_modules import checkpoints

    unknown = set(cfg.do) - {"fit", "test"}
    if unknown:
        raise Refusal(f"do=[{', '.join(sorted(map(str, unknown)))}] is not something to do; take fit, test, or both")
    start = None
    if cfg.ckpt_path:
        start = checkpoints.find(cfg.ckpt_path, "last" if "fit" in cfg.do else "best")
        checkpoints.refuse_misfit(module, checkpoints.read(start), start)
    if cfg.init_from:
        checkpoints.take_weights(module, checkpoints.find(cfg.init_from, "best"))
    score = None
    if "fit" in cfg.do:
        trainer.fit(module, datamodule=data, ckpt_path=start)
        score = trainer.callback_metrics.get(cfg.monitor.name)
        if trainer.checkpoint_callback is not None and trainer.checkpoint_callback.best_model_score is not None:
            score = trainer.checkpoint_callback.best_model_score
    if "test" in cfg.do:
        best = trainer.checkpoint_callback.best_model_path if "fit" in cfg.do and not trainer.fast_dev_run else start
        if "fit" in cfg.do:
            trainer.validate(module, datamodule=data, ckpt_path=best or None, verbose=False)
        trainer.test(module, datamodule=data, ckpt_path=best or None, verbose=False)
    return None if score is None else float(score)


def main() -> None:
    """The command line."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(menu())
        return
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us whole, and we say them in one sentence
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import hydra

    hydra.main(config_path=str(CONF), config_name="run")(carry_out)()


if __name__ == "__main__":
    main()
