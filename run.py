"""Compose one experiment and carry out what `do` says: python run.py experiment=NAME."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning import Trainer
    from omegaconf import DictConfig

    from datamodules.base import ManifestDataModule
    from lightning_modules.supervised import SupervisedModule

CONF = Path(__file__).parent / "conf"
DO = ("fit", "test", "compare")
WHITELIST = (  # what a config may call; a callable that a target returns counts too, so networks and pipelines stand here
    *("datamodules.*", "lightning_modules.*", "callbacks.*", "lightning.*", "torch.*"),
    *("albumentations.*", "segmentation_models_pytorch.*", "timm.*", "torchvision.*"),
)
NOISE = (  # warnings of libraries that no user of ours can act on
    ".*LeafSpec.*",
    ".*exists and is not empty.*",
    ".*smaller than the logging interval.*",
    ".*does not have many workers.*",
    ".*The dirpath has changed from.*",
    ".*in eval mode at the start of training.*",  # a frozen body is meant to be
    ".*WeightAveraging callback, but (loading|saving) a checkpoint outside.*",
)


def menu() -> str:
    """The experiments with their one-line descriptions, and how to go on from there."""
    lines = ["python run.py experiment=NAME [key=value ...]      (-m for a sweep)", "", "experiments:"]
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        said = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ") and "@package" not in line]
        lines.append(f"  {path.stem:<24}{said[0] if said else ''}")
    lines += [
        "",
        "  scale=demo                       any of them on phantoms, in minutes on a CPU",
        "  do=[test] ckpt_path=RUN          evaluate again (RUN: a run folder or a .ckpt)",
        "  ckpt_path=RUN                    go on exactly where RUN stopped",
        "  init_from=RUN                    start from its weights alone",
        "  folds=5                          five fits, one out-of-fold report",
        "  do=[compare] runs=[A,B]          finished runs beside each other, with the intervals of their differences",
        "  experiment=NAME --cfg job        every key and its value",
    ]
    return "\n".join(lines)


def carry_out(cfg: "DictConfig") -> float | None:
    """One run, or one run a fold; returns the monitored score."""
    from datamodules.refusal import Refusal

    unknown = [step for step in cfg.do if step not in DO]
    if unknown:
        raise Refusal(f"do=[{unknown[0]}] is not something to do; take fit, test, both as do=[fit,test], or compare")
    if list(cfg.do) != [step for step in DO if step in cfg.do]:
        raise Refusal(f"do=[{','.join(cfg.do)}] is in no order that can be carried out; take do=[fit,test]")
    if "compare" in cfg.do:
        _compare(cfg)
        return None
    if "fit" not in cfg.do and not (cfg.ckpt_path or cfg.init_from):
        raise Refusal("do=[test] needs a trained network; name a run folder or a checkpoint with ckpt_path=...")
    if not (cfg.folds and cfg.fold is None):
        return _run(cfg)
    if cfg.ckpt_path or "fit" not in cfg.do:
        raise Refusal(
            f"folds={cfg.folds} makes {cfg.folds} fits, which cannot all start from one checkpoint; go on with one of them by fold=i ckpt_path=..."
        )
    return _folds(cfg)


def _compare(cfg: "DictConfig") -> None:
    from callbacks.comparison.compare import compare
    from datamodules.refusal import Refusal

    if len(cfg.do) > 1:
        raise Refusal("do=[compare] stands alone, because it reads finished runs; make them first, then name them with runs=[A,B]")
    compare([str(_named(cfg, run, "runs", phantom=None) or run) for run in cfg.runs], Path(cfg.paths.run))


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
    from hydra.utils import instantiate
    from lightning import seed_everything

    def make(part: Any, **more: Any) -> Any:
        return instantiate(part, _convert_="all", _execution_whitelist_=WHITELIST, **more)

    for key in ("init_from", "ckpt_path"):
        cfg[key] = _found(cfg, cfg[key], key)
    _prepare(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    data = make(cfg.datamodule)
    data.prepare_data()  # the data is checked before a network is built
    module = make(cfg.module)
    loggers = [make(part) for part in cfg.logger.values()]
    trainer = make(cfg.trainer, callbacks=list(callbacks_of(cfg, make).values()), logger=loggers)
    try:
        return _steps(cfg, trainer, module, data)
    finally:
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish()  # else the next fit would write into the same W&B run


def _found(cfg: "DictConfig", named: str | None, key: str) -> str | None:
    """`latest:EXPERIMENT` becomes a run folder; on phantoms a missing run is made first, except where nothing is saved."""
    if named is None or not named.startswith("latest:"):
        return named
    run = _named(cfg, named, key, phantom=cfg.datamodule.phantom is not None)
    if run is None and not cfg.trainer.fast_dev_run:
        print(f"{cfg.title} starts from a run of {named[7:]}, and there is none on phantoms yet: it is made first", file=sys.stderr)
        run = _make_demo(cfg, named.removeprefix("latest:"))
    return None if run is None else str(run)


def _named(cfg: "DictConfig", named: str, key: str, phantom: bool | None) -> Path | None:
    """The run that `latest:EXPERIMENT` means, on phantoms or not, or on either if None; a missing one is refused but for phantoms."""
    from datamodules.refusal import Refusal
    from lightning_modules.checkpoints import latest

    if not named.startswith("latest:"):
        return None
    name, runs = named.removeprefix("latest:"), Path(cfg.paths.runs)
    if not (CONF / "experiment" / f"{name}.yaml").is_file():
        raise Refusal(f"{key}={named} names no experiment; python run.py --help lists them")
    run = latest(name, runs, phantom)
    if run is None and not phantom:
        kind = "" if phantom is None else " on real data"
        raise Refusal(f"{key}={named}: there is no finished run of {name}{kind} below {runs}; make one first, or name a run folder")
    return run


def _make_demo(cfg: "DictConfig", name: str) -> Path:
    from datetime import datetime

    from hydra import compose

    run = Path(cfg.paths.runs) / name / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    other = compose("run", [f"experiment={name}", "scale=demo", "title=made first", "paths.run=."])
    other.title, other.paths = name, {**cfg.paths, "run": str(run)}
    for key in ("accelerator", "enable_progress_bar"):
        other.trainer[key] = cfg.trainer[key]
    _run(other)
    return run


def callbacks_of(cfg: "DictConfig", make: Callable[..., Any]) -> dict[str, Any]:
    """The callbacks by name; Ctrl-C is looked for last, when all others have done their part of a step.

    An experiment may set values of a callback that `callbacks=[...]` then left out: such an entry has no target.
    """
    names = sorted((name for name in cfg.callbacks if "_target_" in cfg.callbacks[name]), key=lambda name: name == "interrupt")
    return {name: make(cfg.callbacks[name]) for name in names if name != "progress" or cfg.trainer.enable_progress_bar}


def _prepare(cfg: "DictConfig") -> None:
    """What the whole process shares: precision, the allocator, quiet libraries; and the configuration on disk."""
    import logging
    import warnings

    import torch
    from omegaconf import OmegaConf

    from lightning_modules.memory import keep_freed_memory
    from lightning_modules.precision import best_precision

    for message in NOISE:
        warnings.filterwarnings("ignore", message)
    for library in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    keep_freed_memory()
    torch.set_float32_matmul_precision("high")
    if cfg.trainer.precision == "auto":
        cfg.trainer.precision = best_precision(cfg.trainer.accelerator)
    Path(cfg.paths.run).mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, Path(cfg.paths.run) / "config.yaml", resolve=True)


def _steps(cfg: "DictConfig", trainer: "Trainer", module: "SupervisedModule", data: "ManifestDataModule") -> float | None:
    from datamodules.refusal import Refusal
    from lightning_modules import checkpoints

    start = checkpoints.find(cfg.ckpt_path, "last" if "fit" in cfg.do else "best") if cfg.ckpt_path else None
    if start:
        checkpoints.refuse_misfit(module, checkpoints.read(start), start)
    if cfg.init_from:
        whole = checkpoints.take_weights(module, checkpoints.find(cfg.init_from, "best"))
        if not whole and not start and "fit" not in cfg.do:
            part = f"init_from={cfg.init_from} gives its body alone"
            raise Refusal(f"do=[test] needs a trained network, and {part}; name a run folder or a checkpoint with ckpt_path=...")
    score = None
    if "fit" in cfg.do:
        trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
        best = getattr(trainer.checkpoint_callback, "best_model_score", None)
        score = trainer.callback_metrics.get(cfg.monitor.name) if best is None else best
        start = getattr(trainer.checkpoint_callback, "best_model_path", None) or None
        if "test" in cfg.do:
            trainer.validate(module, datamodule=data, ckpt_path=start, weights_only=True, verbose=False)
    if "test" in cfg.do:
        trainer.test(module, datamodule=data, ckpt_path=start, weights_only=True, verbose=False)
    return None if score is None else float(score)


def sentence_of(error: BaseException) -> tuple[str, int] | None:
    """What the user is told instead of a traceback, and the exit code; None for what is no mistake of theirs."""
    from hydra.errors import HydraException, InstantiationException
    from omegaconf.errors import OmegaConfBaseException

    from datamodules.refusal import Refusal

    for cause in _chain(error):
        if isinstance(cause, Refusal):
            return str(cause), cause.exit_code
    if isinstance(error, InstantiationException) or not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    return _about_override(str(error)), 2


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _about_override(message: str) -> str:
    """Hydra's message as one sentence, with the key that was probably meant."""
    import difflib
    import re

    said = " ".join(line.strip() for line in message.splitlines() if line.strip() and "full_key" not in line and "object_type" not in line)
    wrong = re.search(r"Could not override '([^']+)'", message)
    if not wrong:
        return said
    near = difflib.get_close_matches(wrong[1], _known_keys(), n=1, cutoff=0.6)
    return f"{wrong[1]} is not a key of this experiment; " + (f"did you mean {near[0]}?" if near else "python run.py --cfg job lists all keys")


def _known_keys() -> list[str]:
    from hydra import compose, initialize_config_dir
    from omegaconf import DictConfig, OmegaConf

    chosen = [word for word in sys.argv[1:] if word.split("=")[0] in {"experiment", "scale"} or "/" in word.split("=")[0]]
    with initialize_config_dir(str(CONF)):
        cfg = compose("run", chosen)

    def keys(node: DictConfig, prefix: str) -> Iterator[str]:
        for name in map(str, node):
            yield f"{prefix}{name}"
            if not OmegaConf.is_interpolation(node, name) and not OmegaConf.is_missing(node, name) and OmegaConf.is_dict(node[name]):
                yield from keys(node[name], f"{prefix}{name}.")

    return list(keys(cfg, ""))


def told(work: Callable[..., Any], *arguments: Any) -> Any:
    """Does the work; a mistake of the user ends the process with one sentence and no traceback."""
    try:
        return work(*arguments)
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None:
            raise
        print(sentence[0], file=sys.stderr)
        sys.exit(sentence[1])


def job(cfg: "DictConfig") -> float | None:
    """What Hydra runs; mistakes are told here, before Hydra adds its own words to them."""
    return told(carry_out, cfg)


def main() -> None:
    """The command line."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(menu())
        return
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach us whole, and we say them in one sentence
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import warnings

    import hydra

    # Hydra makes its own callbacks without a whitelist; this one is ours
    warnings.filterwarnings("ignore", r"hydra\.utils\.instantiate\(\) resolved _target_='callbacks\.comparison\.trials")
    told(hydra.main(config_path=str(CONF), config_name="run")(job))


if __name__ == "__main__":
    main()
