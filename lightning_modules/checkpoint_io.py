"""Reader of checkpoints with weights_only; a checkpoint that does not fit is refused."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from datamodules.base import ManifestDataModule
from datamodules.errors import UserError
from datamodules.formats.gray_levels import format_window
from datamodules.image_size import ImageSize
from lightning_modules import training_record
from lightning_modules.base import SupervisedModule
from lightning_modules.checkpoint_schema import check_content, check_numbers, find_damage
from lightning_modules.networks.classification import find_head
from lightning_modules.networks.encoder import has_adapters
from lightning_modules.networks.frozen_backbone import FrozenBackboneClassifier
from lightning_modules.networks.lora_config import is_adapter, plain_name
from lightning_modules.normalize import SOURCE_CHECKPOINT, Normalize, same_statistics
from lightning_modules.pretrained.reading import explain_unreadable

GAMMA_BUFFER = "exponent"  # buffer of `Normalize` for gamma; absent if gamma is 1
NORMALIZATION_KEYS = (
    "normalize.mean",
    "normalize.std",
    "mean",
    "std",
)  # buffers of the normalization; `Normalize` accepts any number of channels


def read_checkpoint(path: Path, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are allowed.

    Args:
        path: The file.
        mmap: True to leave tensors on disk until they are used, which must be before the file
            changes.

    Raises:
        UserError: The file is damaged, or not a checkpoint; or a weight is not finite.
    """
    reason = find_damage(path)
    if reason:
        raise UserError(f"{path} cannot be read as a checkpoint ({reason}); {_way_on(path)}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # damaged pickles make torch raise anything, also IndexError
        raise UserError(
            f"{path} cannot be read as a checkpoint ({explain_unreadable(path, error)});"
            f" {_way_on(path)}"
        ) from error
    checkpoint = check_content(content, path)
    if not mmap:
        check_numbers(checkpoint["state_dict"], path)
    return checkpoint


def _way_on(path: Path) -> str:
    """Say what to do without a checkpoint: the best one of its run may be there."""
    best = path.with_name("best.ckpt")
    if path.name == "last.ckpt" and best.is_file() and not find_damage(best):
        return f"continue from the best epoch with ckpt_path={best} (without resume=auto)"
    return "name another file"


def read_metadata(path: Path) -> dict[str, Any]:
    """Read a checkpoint without its weights, which is fast.

    Raises:
        UserError: The file is damaged, or not a checkpoint.
    """
    try:
        found = read_checkpoint(path, mmap=True)
    except UserError:  # a file in torch's older format cannot be mapped into memory
        found = read_checkpoint(path)
    return {
        name: value
        for name, value in found.items()
        if name not in ("state_dict", "optimizer_states", "callbacks")
    }


def holds_all_weights(path: Path) -> bool:
    """Return True if a checkpoint holds all weights; an adapter's lacks the frozen ones."""
    try:
        state = read_checkpoint(path, mmap=True)["state_dict"]
    except UserError:  # a file in torch's older format cannot be mapped into memory
        state = read_checkpoint(path)["state_dict"]
    return not any(
        isinstance(value, dict) and value.get("checkpoint") == "adapter" for value in state.values()
    )


def check_compatible(module: nn.Module, checkpoint: dict[str, Any], path: Path) -> None:
    """Compare names and shapes of all weights, and mean and std with those that the user gave.

    Raises:
        UserError: The checkpoint has another network, or another normalization than the configured
            one.
    """
    own, stored = module.state_dict(), checkpoint["state_dict"]
    tensors = [name for name in own.keys() & stored.keys() if isinstance(own[name], torch.Tensor)]
    odd = [name for name in tensors if not isinstance(stored[name], torch.Tensor)]
    if odd:
        raise UserError(
            f"{path} has a {type(stored[odd[0]]).__name__} in place of the tensor '{odd[0]}'; it is"
            " damaged, name another checkpoint"
        )
    shaped = [name for name in tensors if name not in NORMALIZATION_KEYS]
    wrong = sorted(own.keys() ^ stored.keys()) or sorted(
        name for name in shaped if own[name].shape != stored[name].shape
    )
    whole = [
        name
        for name in tensors
        if own[name].is_floating_point() != stored[name].is_floating_point()
    ]
    if whole:
        raise UserError(
            f"{path}: the tensor '{whole[0]}' holds {stored[whole[0]].dtype}, and the network has"
            f" {own[whole[0]].dtype}; name another checkpoint"
        )
    gammas = [
        next((float(value) for name, value in state.items() if name.endswith(GAMMA_BUFFER)), 1.0)
        for state in (own, stored)
    ]
    if gammas[0] != gammas[1]:
        raise UserError(
            f"{path} was trained with module.gamma={gammas[1]:g}, but this run has"
            f" module.gamma={gammas[0]:g}; set module.gamma={gammas[1]:g}"
        )
    if wrong:
        difference = f"{len(wrong)} weights differ, the first is {wrong[0]}"
        raise UserError(
            f"{path} belongs to another network ({difference}); set module.net as in the run of"
            " the checkpoint, and image_size for a network that is built for one size"
        )
    if isinstance(module, SupervisedModule):
        check_same_normalization(module.normalize, _strip_prefix(stored, "normalize."), path)


def check_same_normalization(normalize: Normalize, stored: dict[str, Any], path: Path) -> None:
    """Refuse a checkpoint whose mean or std differ from the user's, which it would replace.

    Args:
        normalize: Normalization of the module that is to take the checkpoint.
        stored: The checkpoint's `mean` and `std`.
        path: Path of the checkpoint.

    Raises:
        UserError: They differ. With `auto` the checkpoint's numbers are used and nothing is
            refused.
    """
    given = {"mean": normalize.mean.cpu(), "std": normalize.std.cpu()}
    if normalize.explicit and not all(
        same_statistics(value, stored[name].cpu()) for name, value in given.items()
    ):
        theirs, ours = (
            " ".join(f"module.{name}=[{format_statistics(state[name], ',')}]" for name in given)
            for state in (stored, given)
        )
        raise UserError(f"{path} was trained with {theirs}, but this run has {ours}; set {theirs}")


def format_statistics(values: torch.Tensor, separator: str = " ") -> str:
    """Format means or stds with the digits that `same_statistics` compares."""
    return separator.join(f"{value:.6g}" for value in values.flatten().tolist())


def read_normalization(path: Path) -> Normalize | None:
    """Read the normalization of a checkpoint; None if it holds none.

    Args:
        path: Path of the checkpoint.
    """
    stored = _strip_prefix(read_checkpoint(path)["state_dict"], "normalize.")
    if "mean" not in stored or "std" not in stored:
        return None
    gamma = float(stored.get(GAMMA_BUFFER, 1.0))
    return Normalize(
        stored["mean"].flatten().tolist(),
        stored["std"].flatten().tolist(),
        gamma,
        SOURCE_CHECKPOINT,
    )


def load_weights(module: SupervisedModule, path: Path) -> bool:
    """Load only the weights, for `init_from`; optimizer, epoch and schedule start from zero.

    A network with a frozen backbone, or with adapters in its encoder, also accepts a checkpoint of
    the plain network. A classifier accepts a checkpoint with other classes, without its head.

    Returns:
        True if the head was loaded too.
    """
    state = read_checkpoint(path)["state_dict"]
    if isinstance(module.net, FrozenBackboneClassifier) and "net._extra_state" not in state:
        try:
            module.net.load_backbone(_strip_prefix(state, "net."))
        except UserError as refusal:
            raise UserError(
                f"init_from={path} does not fit: {refusal}; name a run of the same architecture, or"
                " set module.net.encoder"
            ) from refusal
        stored = _strip_prefix(state, "normalize.")
        check_compatible(module.normalize, {"state_dict": stored}, path)
        check_same_normalization(module.normalize, stored, path)
        module.normalize.load_state_dict(
            stored
        )  # the normalization that the backbone was trained with
        return False
    if has_adapters(module.net) and not any(map(is_adapter, state)):
        state = _add_adapters(module, state)
    whole = _keep_own_head(module, state)
    check_compatible(module, {"state_dict": state}, path)
    module.load_state_dict(state)
    return whole


def _add_adapters(module: nn.Module, state: dict[str, Any]) -> dict[str, Any]:
    """Rename the weights of a plain network for one with adapters, and add its own adapters."""
    own = module.state_dict()
    plain = {name: plain_name(name) for name in own if not is_adapter(name)}
    found = {name: state[short] for name, short in plain.items() if short in state}
    further = {name: state[name] for name in state.keys() - set(plain.values())}
    return found | {name: value for name, value in own.items() if is_adapter(name)} | further


def _strip_prefix(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }


def adopt_image_size(data: ManifestDataModule, path: Path) -> None:
    """Set the evaluation size to the image size that a checkpoint's weights were trained on.

    Lightning restores that size only for a data module of the same class, and keeps that of an
    earlier checkpoint if this one records none.

    Args:
        data: Data module that is not prepared yet, or was prepared for this training. A size that
            the user set for it is kept.
        path: Path of the checkpoint.
    """
    checkpoint = read_metadata(path)
    data.trained_size = training_record.trained_image_size(checkpoint)
    if data.size_is_given:
        return
    configured = (checkpoint.get(training_record.RECORD_KEY) or {}).get("configured_size")
    if configured is not None:
        data.set_image_size(ImageSize.from_config(configured))
    if data.trained_size and not data.cache_size.covers(data.trained_size):
        data.cache_size = data.trained_size


def adopt_window(data: ManifestDataModule, path: Path) -> str | None:
    """Display the images by the window that a checkpoint's weights were trained with.

    Args:
        data: Data module that is not prepared yet, or was prepared for this training. A window that
            the user set for it is kept.
        path: Path of the checkpoint.

    Returns:
        A note for the user if the kept window is another one.
    """
    data.trained_window = training_record.trained_window(read_metadata(path))
    if data.trained_window is None or data.window is None:
        return None
    trained = data.trained_window.window
    if trained in (None, data.window):
        return None
    given, learned = format_window(data.window), format_window(trained)
    return f"datamodule.window={given} is used, and {path} was trained with {learned}"


def _keep_own_head(module: SupervisedModule, state: dict[str, Any]) -> bool:
    """Put the module's own head and rule into `state` if it belongs to other classes.

    Returns:
        True if `state` was not changed.
    """
    if module.target != "label" or isinstance(module.net, FrozenBackboneClassifier):
        return True
    head = f"net.{find_head(module.net)[0]}."
    own = {
        name: value
        for name, value in module.state_dict().items()
        if name.startswith(head) or name.endswith("._extra_state")
    }
    if all(
        name in state and (not name.startswith(head) or state[name].shape == value.shape)
        for name, value in own.items()
    ):
        return True
    state.update(own)
    return False
