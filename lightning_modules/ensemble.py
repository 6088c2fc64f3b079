"""Several networks, and their views of the mirrored image, as one network for evaluation."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.errors import UserError
from lightning_modules.base import SupervisedModule
from lightning_modules.checkpoint_io import check_compatible, read_checkpoint

MAX_LOGIT = torch.finfo(torch.float32).max


class Ensemble(nn.Module):
    """Networks as one: its logits' sigmoid is the mean of the members' probabilities.

    One member without flip is that network. Members see the same normalized image. The mean is that
    of each class by itself, not of a softmax.

    Args:
        nets: From float `B x C x H x W` to logits, `B x classes x H x W` of masks or `B x classes`
            of labels.
        flip: Each member also looks at the image mirrored left to right; its mask is mirrored back.
    """

    def __init__(self, nets: Sequence[nn.Module], flip: bool = False) -> None:
        super().__init__()
        if not nets:
            raise ValueError("Together needs at least one network")
        self.nets = nn.ModuleList(nets)
        self.flip = flip

    def forward(self, image: Tensor) -> Tensor:
        """Float `B x C x H x W` to logits in fp32, finite wherever the members' are no NaN."""
        views = self._augmented_views(image)
        first = next(views)
        yes, no, several = F.logsigmoid(first), F.logsigmoid(-first), False
        for logits in views:  # one at a time, so that memory does not grow with the members
            yes, no, several = (
                torch.logaddexp(yes, F.logsigmoid(logits)),
                torch.logaddexp(no, F.logsigmoid(-logits)),
                True,
            )
        return (
            yes - no if several else first
        )  # logit of the mean p: log(sum of p) - log(sum of 1 - p)

    def _augmented_views(self, image: Tensor) -> Iterator[Tensor]:
        for net in self.nets:
            yield net(image).float().clamp(-MAX_LOGIT, MAX_LOGIT)
            if self.flip:
                logits = net(image.flip(-1)).float().clamp(-MAX_LOGIT, MAX_LOGIT)
                yield logits.flip(-1) if logits.ndim == 4 else logits


def first_network(net: nn.Module) -> nn.Module:
    """Return the first member of an `Ensemble`, and any other network itself."""
    return net.nets[0] if isinstance(net, Ensemble) else net


def top_checkpoints(best: Path | None, number: int) -> list[Path]:
    """Return the best few checkpoints of a run.

    Args:
        best: The best of all; the others lie beside it as top-*.ckpt.
        number: Number of networks.

    Raises:
        UserError: the run did not keep so many.
    """
    found = [] if best is None else sorted(best.parent.glob("top-*.ckpt"))
    if len(found) != number:
        mend = f"take average_checkpoints={len(found)}, or " if len(found) > 1 else ""
        mend += f"train with extra=top_checkpoints callbacks.top_checkpoints.save_top_k={number}"
        raise UserError(
            f"average_checkpoints={number} needs {number} checkpoints, and the run kept"
            f" {len(found)} of its best ones; {mend}"
        )
    return found


def load_members(module: SupervisedModule, paths: Sequence[Path], hint: str) -> list[nn.Module]:
    """Copy the module's network with the weights of each checkpoint, which are read one by one.

    Args:
        module: Whose network it is.
        paths: Paths of the checkpoints.
        hint: Advice for checkpoints that were trained on images of different sizes.

    Raises:
        UserError: one is of another network, or they were trained on images of different sizes or
            on other grey values.
    """
    nets: list[nn.Module] = []
    seen: list[str] = []
    for path in paths:
        checkpoint = read_checkpoint(path)
        seen.append(
            str([state for name, state in checkpoint.items() if name.endswith("DataModule")])
        )
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
    """Refuse a checkpoint of other grey values; all networks see the image as the module does."""
    for name, value in module.normalize.state_dict().items():
        stored = state.get(f"normalize.{name}")
        if stored is not None and not torch.equal(value.cpu(), stored.cpu()):
            raise UserError(
                f"{path} was trained with another module.{name} of grey values than the others;"
                " name networks that see the same images"
            )
