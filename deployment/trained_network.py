"""Trained network of a run folder: its module, the input that it expects, and its rule.

Nothing but the run folder is read: the configuration that the run wrote, and its checkpoint.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from datamodules.errors import UserError
from datamodules.image_size import ImageSize
from deployment.inference import Decision, Preprocessing
from lightning_modules import checkpoint_io
from lightning_modules.base import EvaluatedModule
from lightning_modules.configured_weights import drop_replaced_weights
from lightning_modules.ensemble import Ensemble, load_members
from lightning_modules.instantiation import allow_modules, instantiate_config
from lightning_modules.normalize import SOURCE_CHECKPOINT
from lightning_modules.training_record import RECORD_KEY, trained_image_size, trained_window
from reporting.fold_ensemble import FoldEnsemble, check_members
from reporting.fold_runs import load_fold_runs
from reporting.run_folder import CONFIG_FILE, RunFolder, find_checkpoint


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """Network of a run with what belongs to it.

    Attributes:
        folder: Run folder.
        checkpoints: Checkpoint of each network; several are an ensemble.
        module: Module with its weights and rule, in evaluation mode, on the CPU.
        preprocessing: Conversion of images to its input.
        decision: Classes and rule.
        config: Configuration of the run, of the first one of an ensemble.
    """

    folder: Path
    checkpoints: tuple[Path, ...]
    module: EvaluatedModule
    preprocessing: Preprocessing
    decision: Decision
    config: Mapping[str, Any]

    def predict_logits(self, canvas: np.ndarray) -> np.ndarray:
        """Convert uint8 `B x C x h x w` to float32 logits; see `InferencePipeline`."""
        image = torch.from_numpy(canvas).to(self.module.device)
        with torch.inference_mode():
            return self.module(image).float().cpu().numpy()


def load_trained_network(
    run: str | Path, checkpoint: str = "best", code: Sequence[str] = ()
) -> TrainedNetwork:
    """Load the network of a run folder, or of a run or multirun of folds as an ensemble.

    Args:
        run: Run folder, or a .ckpt file in the `checkpoints` of one.
        checkpoint: `best` or `last`.
        code: Modules of the user's own that the run's configuration may name, as the key `code` of
            the run; the configuration itself cannot allow them.

    Raises:
        UserError: The folder is no finished run, or its networks cannot be used together.
    """
    place = Path(run).expanduser()
    fits = load_fold_runs(place) if place.is_dir() else []
    with _allow_code(code):
        if not fits:
            return _load_single(_run_folder(place), find_checkpoint(str(place), checkpoint))
        check_members(fits, place, "run")
        return _load_ensemble(FoldEnsemble(place, "run", fits))


@contextmanager
def _allow_code(modules: Sequence[str]) -> Iterator[None]:
    """Let a configuration name modules that the caller lists; they must be on the search path.

    Without any, those that the command line allowed stay allowed.
    """
    if not modules:
        yield
        return
    for module in modules:
        top = module.partition(".")[0]
        if not module.replace(".", "_").isidentifier() or top in sys.stdlib_module_names:
            raise UserError(
                f"code={list(modules)}: {module} is no name of a module of your own; name one that"
                " can be imported, such as my_net for my_net.py"
            )
    with allow_modules(tuple(modules), ()):
        yield


def _run_folder(place: Path) -> Path:
    folder = place if place.is_dir() else place.parent.parent
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(
            f"{folder} has no {CONFIG_FILE}, so it is no run folder; name the folder of a run"
        )
    return folder


def _load_single(folder: Path, path: Path) -> TrainedNetwork:
    config = RunFolder(folder).config
    checkpoint = checkpoint_io.read_checkpoint(path)
    module = build_module(config, path)
    checkpoint_io.check_compatible(module, checkpoint, path)
    module.load_state_dict(checkpoint["state_dict"])
    return TrainedNetwork(
        folder=folder,
        checkpoints=(path,),
        module=_prepare(module),
        preprocessing=read_preprocessing(checkpoint, config, path),
        decision=module_decision(module),
        config=config,
    )


def _load_ensemble(ensemble: FoldEnsemble) -> TrainedNetwork:
    """Load the networks of all folds; their rule is searched on their out-of-fold evidence."""
    paths = ensemble.checkpoints
    first = ensemble.members[0]
    single = _load_single(first.folder, paths[0])
    module = single.module
    nets = load_members(module, paths, "name folds of one experiment")
    exclusive_masks = module.target == "mask" and getattr(module, "exclusive", False)
    module.net = Ensemble(nets, exclusive_masks=exclusive_masks)
    module.rule.values = _search_rule(ensemble, module, single.config)
    _check_same_input(ensemble, paths, single.preprocessing)
    return TrainedNetwork(
        folder=ensemble.folder,
        checkpoints=tuple(paths),
        module=_prepare(module),
        preprocessing=single.preprocessing,
        decision=module_decision(module),
        config=single.config,
    )


def _search_rule(
    ensemble: FoldEnsemble, module: EvaluatedModule, config: Mapping[str, Any]
) -> torch.Tensor:
    """Search the rule as a test of the ensemble does, with the settings of its runs."""
    settings = (config.get("callbacks") or {}).get("threshold_search")
    if not settings or "_target_" not in settings:
        raise UserError(
            f"{ensemble.folder} was trained without callbacks.threshold_search, so nothing tells"
            " the rule of all networks together; name one of its folds"
        )
    search = instantiate_config(OmegaConf.create({"callbacks": {"threshold_search": settings}}))
    search = search["callbacks"]["threshold_search"]
    found: torch.Tensor = search.search_rule(ensemble.evidence)
    if module.target == "label" and not bool(found[:, 2].all()):
        raise UserError(
            f"no threshold of {ensemble.folder} satisfies callbacks.threshold_search.min_metrics;"
            " lower them, or name one of its folds"
        )
    return found


def _check_same_input(ensemble: FoldEnsemble, paths: Sequence[Path], first: Preprocessing) -> None:
    """Refuse networks that were trained on other windows; all see an image by one of them."""
    for fit, path in zip(ensemble.members[1:], paths[1:], strict=True):
        checkpoint = checkpoint_io.read_metadata(path)
        other = read_preprocessing(checkpoint, RunFolder(fit.folder).config, path)
        if other.window != first.window:
            raise UserError(
                f"{paths[0]} and {path} were trained with different windows, {first.window} and"
                f" {other.window}; train the folds with datamodule.window=[low,high]"
            )


def build_module(config: Mapping[str, Any], checkpoint: Path) -> EvaluatedModule:
    """Build the module of a stored configuration, without pretrained weights.

    Weights that the checkpoint lacks, those of a frozen backbone, are read from the run's
    `init_from`.

    Raises:
        UserError: The configuration holds no module, or that of another kind.
    """
    cfg = OmegaConf.create(dict(config))
    if not isinstance(cfg, DictConfig) or "module" not in cfg:
        raise UserError(f"the configuration beside {checkpoint} describes no module")
    replaced = drop_replaced_weights(cfg, [checkpoint])
    module = instantiate_config(cfg.module)
    if not isinstance(module, EvaluatedModule):
        raise UserError(
            f"{checkpoint} is of a {type(module).__name__}, which has no classes and no rule; name"
            " the run of a SegmentationModule or a ClassificationModule"
        )
    if replaced and not module.normalize.explicit:
        module.normalize.source = SOURCE_CHECKPOINT
    if config.get("init_from") and not checkpoint_io.holds_all_weights(checkpoint):
        begin = find_checkpoint(str(config["init_from"]), "best")
        checkpoint_io.load_weights(module, begin)
    return module


def read_preprocessing(
    checkpoint: Mapping[str, Any], config: Mapping[str, Any], path: Path
) -> Preprocessing:
    """Read what a checkpoint records of its input; the configuration tells how files are read.

    Raises:
        UserError: The checkpoint records nothing.
    """
    record = checkpoint.get(RECORD_KEY)
    size = trained_image_size(checkpoint)
    if record is None or size is None:
        raise UserError(
            f"{path} does not record the image size and the classes that it was trained with; train"
            " it again"
        )
    data = config.get("datamodule") or {}
    cache = ImageSize.from_config(data.get("cache_size") or record["configured_size"])
    window = trained_window(checkpoint)
    return Preprocessing(
        image_size=size,
        cache_size=cache if cache.covers(size) else size,
        channels=record["channels"],
        window=None if window is None else window.window,
        ignore_dicom_windows=window is not None and window.given,
        frame=data.get("frame"),
        max_pixels=data["max_pixels"],
    )


def module_decision(module: EvaluatedModule) -> Decision:
    """Return the classes of a module and its rule in force."""
    rows = [(top, area, bottom) for top, area, bottom in module.rule.values.tolist()]
    return Decision(
        target=module.target,
        classes=module.classes,
        exclusive=bool(getattr(module, "exclusive", False)),
        rule=tuple(rows),
    )


def _prepare(module: EvaluatedModule) -> EvaluatedModule:
    """Put a module into evaluation mode in fp32, without gradients."""
    module.float().eval().requires_grad_(False)
    return module


def plain_network(module: EvaluatedModule) -> nn.Module:
    """Return the network of a module for export: LoRA adapters are merged into the weights."""
    from lightning_modules.networks.lora import merge_network  # peft takes a second

    if not isinstance(module.net, Ensemble):
        return merge_network(module.net)
    nets = [merge_network(net) for net in module.net.nets]
    return Ensemble(nets, module.net.tta, module.net.exclusive_masks)
