"""What a network counts while it trains (BatchNorm's statistics) becomes the same on all ranks."""

from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


def of_first_rank(net: nn.Module) -> None:
    """Gives every rank the first one's BatchNorm statistics, which are those that a checkpoint holds; called by all ranks at once.

    Done before a validation, and not before every forward pass as by DDP: training looks at the
    batch's own statistics.
    """
    if (
        not (distributed.is_available() and distributed.is_initialized())
        or distributed.get_world_size() == 1
    ):
        return
    for layer in net.modules():
        if isinstance(layer, _BatchNorm):
            for buffer in layer.buffers(recurse=False):
                distributed.broadcast(buffer, src=0)
