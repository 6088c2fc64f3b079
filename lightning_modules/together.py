"""Several networks, and their views of the mirrored image, as one network for evaluation."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FINITE = torch.finfo(torch.float32).max


class Together(nn.Module):
    """Logits whose sigmoid is the mean of the members' probabilities; one member without flip is that network.

    Members see the same normalized image. The mean is that of each class by itself, not of a softmax.

    Args:
        nets: From float `B x C x H x W` to logits, `B x classes x H x W` of masks or `B x classes` of labels.
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
        views = self._views(image)
        first = next(views)
        yes, no, several = F.logsigmoid(first), F.logsigmoid(-first), False
        for logits in views:  # one at a time, so that memory does not grow with the members
            yes, no, several = torch.logaddexp(yes, F.logsigmoid(logits)), torch.logaddexp(no, F.logsigmoid(-logits)), True
        return yes - no if several else first  # logit of the mean p: log(sum of p) - log(sum of 1 - p)

    def _views(self, image: Tensor) -> Iterator[Tensor]:
        for net in self.nets:
            yield net(image).float().clamp(-FINITE, FINITE)
            if self.flip:
                logits = net(image.flip(-1)).float().clamp(-FINITE, FINITE)
                yield logits.flip(-1) if logits.ndim == 4 else logits
