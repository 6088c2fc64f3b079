"""Synchronisation of BatchNorm's statistics over ranks."""

from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


def broadcast_batchnorm(net: nn.Module) -> None:
    """Give every rank the BatchNorm statistics of the first, which are those of a checkpoint.

    All ranks call it at once, before a validation. DDP would do so before every forward pass, but
    training uses the batch's own statistics.
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
