"""Reads checkpoints with weights_only, and says in one sentence when one does not fit."""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from datamodules.refusal import Refusal


def find(path: str, wanted: str) -> Path:
    """A checkpoint file, named itself or by its run folder.

    Args:
        path: A .ckpt file, or a run folder.
        wanted: `best` or `last`, where a folder is named.

    Raises:
        Refusal: there is none.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        place = place / "checkpoints" / f"{wanted}.ckpt"
    if not place.is_file():
        raise Refusal(f"{place} does not exist; name a .ckpt file, or a run folder that holds checkpoints/{wanted}.ckpt")
    return place


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, tensors and plain values only.

    Raises:
        Refusal: damaged, or not a checkpoint.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise Refusal(f"{path} is not a checkpoint that can be read ({str(error).splitlines()[0][:80]}); name another file") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise Refusal(f"{path} holds no state_dict, so it is not a checkpoint of this repository; name another file")
    return checkpoint


def refuse_misfit(module: nn.Module, checkpoint: dict[str, Any], path: Path) -> None:
    """Compares names and shapes of all weights.

    Raises:
        Refusal: the checkpoint is of another network.
    """
    own, stored = module.state_dict(), checkpoint["state_dict"]
    wrong = sorted(own.keys() ^ stored.keys()) or [
        name for name in own if isinstance(own[name], torch.Tensor) and own[name].shape != stored[name].shape
    ]
    if wrong:
        differ = f"{len(wrong)} weights differ, the first is {wrong[0]}"
        raise Refusal(f"{path} is of another network ({differ}); set module.net as it was when the checkpoint was made")


def take_weights(module: nn.Module, path: Path) -> None:
    """Weights alone, for `init_from`; optimizer, epoch and schedule start afresh."""
    checkpoint = read(path)
    refuse_misfit(module, checkpoint, path)
    module.load_state_dict(checkpoint["state_dict"])
