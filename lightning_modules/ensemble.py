"""Ensemble of networks, optionally with mirrored images, as one network for evaluation."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from datamodules.errors import UserError
from evaluation.exclusive_classes import log_probabilities
from lightning_modules.base import SupervisedModule
from lightning_modules.checkpoint_io import check_compatible, read_checkpoint

MAX_LOGIT = torch.finfo(torch.float32).max
Augmentation = Literal["none", "hflip", "flips", "turns"]


class View(NamedTuple):
    """Mirrored and turned version of an image.

    Attributes:
        mirrored: True to mirror it left to right, before it is turned.
        turns: Number of turns by 90 degrees.
    """

    mirrored: bool = False
    turns: int = 0

    def apply(self, image: Tensor) -> Tensor:
        """Return the view of images `B x C x H x W`."""
        mirrored = image.flip(-1) if self.mirrored else image
        return torch.rot90(mirrored, self.turns, (-2, -1)) if self.turns else mirrored

    def undo(self, logits: Tensor) -> Tensor:
        """Turn and mirror logits of the view back."""
        turned = torch.rot90(logits, -self.turns, (-2, -1)) if self.turns else logits
        return turned.flip(-1) if self.mirrored else turned


VIEWS: dict[str, tuple[View, ...]] = {
    "none": (View(),),
    "hflip": (View(), View(True)),
    "flips": (View(), View(True), View(False, 2), View(True, 2)),
    "turns": tuple(View(mirrored, turns) for turns in range(4) for mirrored in (False, True)),
}  # views whose probabilities are averaged, by the value of `tta`


class Ensemble(nn.Module):
    """Ensemble network whose logits' sigmoid is the mean of the members' probabilities.

    One member without augmentation equals that network. All members get the same normalized image.
    The mean is computed for each class separately, not over a softmax; but for masks of exclusive
    classes it is the mean of `softmax([0, z])`, and the logits are those relative to the
    background again.

    Args:
        nets: Networks that map float `B x C x H x W` to logits, `B x classes x H x W` for masks or
            `B x classes` for labels.
        tta: Test-time augmentation, a key of `VIEWS`: each member also evaluates the mirrored or
            turned image, and its mask is turned back.
        exclusive_masks: True if the logits are those of masks of exclusive classes.
    """

    def __init__(
        self, nets: Sequence[nn.Module], tta: Augmentation = "none", exclusive_masks: bool = False
    ) -> None:
        super().__init__()
        if not nets:
            raise ValueError("Ensemble needs at least one network")
        self.nets = nn.ModuleList(nets)
        self.tta = tta
        self.exclusive_masks = exclusive_masks

    def forward(self, image: Tensor) -> Tensor:
        """Convert float `B x C x H x W` to fp32 logits, finite wherever no member gives NaN."""
        views = self._augmented_views(image)
        first = next(views)
        if self.exclusive_masks:
            return self._average_softmax(first, views)
        yes, no, several = log_sigmoid(first), log_sigmoid(-first), False
        for (
            logits
        ) in views:  # one at a time, so that memory does not grow with the number of members
            yes, no, several = (
                log_add_exp(yes, log_sigmoid(logits)),
                log_add_exp(no, log_sigmoid(-logits)),
                True,
            )
        return (
            yes - no if several else first
        )  # logit of the mean p: log(sum of p) - log(sum of 1 - p)

    @staticmethod
    def _average_softmax(first: Tensor, others: Iterator[Tensor]) -> Tensor:
        """Return the logits, relative to the background, of the mean softmax of all views."""
        total, several = log_probabilities(first), False
        for logits in others:
            total, several = log_add_exp(total, log_probabilities(logits)), True
        mean = (total[:, 1:] - total[:, :1]).clamp(-MAX_LOGIT, MAX_LOGIT)
        return mean if several else first

    def _augmented_views(self, image: Tensor) -> Iterator[Tensor]:
        for net in self.nets:
            for view in VIEWS[self.tta]:
                logits = net(view.apply(image)).float().clamp(-MAX_LOGIT, MAX_LOGIT)
                yield view.undo(logits) if logits.ndim == 4 else logits


def log_sigmoid(logits: Tensor) -> Tensor:
    """Return the logarithm of the sigmoid, finite for all finite logits.

    The ONNX exporter writes torch's own function as log(sigmoid(x)), which is -inf below -88.
    """
    return logits.clamp(max=0) - torch.log1p(torch.exp(-logits.abs()))


def log_add_exp(first: Tensor, second: Tensor) -> Tensor:
    """Return `log(exp(first) + exp(second))`; see `log_sigmoid` for why it is not torch's."""
    gap = (first - second).abs()
    gap = torch.where(first == second, torch.zeros_like(gap), gap)  # also where both are -inf
    return torch.maximum(first, second) + torch.log1p(torch.exp(-gap))


def first_network(net: nn.Module) -> nn.Module:
    """Return the first member of an `Ensemble`, or the network itself if it is none."""
    return net.nets[0] if isinstance(net, Ensemble) else net


def top_checkpoints(best: Path | None, number: int) -> list[Path]:
    """Return the best few checkpoints of a run.

    Args:
        best: The best checkpoint; the others are next to it as top-*.ckpt.
        number: Number of networks.

    Raises:
        UserError: The run kept fewer checkpoints.
    """
    found = [] if best is None else sorted(best.parent.glob("top-*.ckpt"))
    if len(found) != number:
        fix = f"take average_checkpoints={len(found)}, or " if len(found) > 1 else ""
        fix += f"train with extra=top_checkpoints callbacks.top_checkpoints.save_top_k={number}"
        raise UserError(
            f"average_checkpoints={number} needs {number} checkpoints, but the run kept"
            f" {len(found)} of its best ones; {fix}"
        )
    return found


def load_members(module: SupervisedModule, paths: Sequence[Path], hint: str) -> list[nn.Module]:
    """Copy the module's network with the weights of each checkpoint, which are read one by one.

    Args:
        module: Module of the network.
        paths: Paths of the checkpoints.
        hint: Advice for checkpoints that were trained on images of different sizes.

    Raises:
        UserError: A checkpoint belongs to another network, or they were trained with different
            image sizes or normalizations.
    """
    nets: list[nn.Module] = []
    seen: list[str] = []
    for path in paths:
        checkpoint = read_checkpoint(path)
        states = [state for name, state in checkpoint.items() if name.endswith("DataModule")]
        seen.append(str([state.get("image_size") for state in states if "image_size" in state]))
        if seen[-1] != seen[0]:
            raise UserError(
                f"{paths[0]} and {path} were trained on images of different sizes; {hint}"
            )
        _check_same_normalization(module, checkpoint["state_dict"], path)
        check_compatible(module, checkpoint, path)
        net = deepcopy(module.net)
        net.load_state_dict(
            {
                name.removeprefix("net."): value
                for name, value in checkpoint["state_dict"].items()
                if name.startswith("net.")
            }
        )
        nets.append(net)
    return nets


def _check_same_normalization(
    module: SupervisedModule, state: Mapping[str, Any], path: Path
) -> None:
    """Refuse a checkpoint of another normalization; all networks get the module's input."""
    for name, value in module.normalize.state_dict().items():
        stored = state.get(f"normalize.{name}")
        if stored is not None and not torch.equal(value.cpu(), stored.cpu()):
            raise UserError(
                f"{path} was trained with another module.{name} than the others; name networks with"
                " the same normalization"
            )
