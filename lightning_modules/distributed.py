"""Random states, BatchNorm statistics and lists of all ranks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


def all_gather_lists(world_size: int, *mine: list[Any]) -> list[list[Any]]:
    """Gather each of several lists over all processes."""
    parts: list[Any] = [mine] * world_size
    if world_size > 1:
        torch.distributed.all_gather_object(parts, mine)
    return [[each for part in parts for each in part[number]] for number in range(len(mine))]


RNGState = dict[str, Tensor]


def decorrelate_ranks(rank: int) -> None:
    """Seed all ranks but the first differently.

    They were seeded alike, and would otherwise drop the same units of different images.
    """
    if rank > 0:
        torch.manual_seed(torch.initial_seed() + rank)


def gather_rng_states(device: torch.device) -> list[RNGState]:
    """Return the state of each rank, in their order; all ranks call it at once.

    Args:
        device: Device of this rank.
    """
    own = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    if not (distributed.is_available() and distributed.is_initialized()):
        return [own]
    states: list[RNGState] = [{}] * distributed.get_world_size()
    distributed.all_gather_object(states, own)
    return states


def restore_rng_state(states: Sequence[RNGState], rank: int, device: torch.device) -> None:
    """Restore this rank's generators; ranks that the checkpoint does not know keep theirs.

    Args:
        states: As `gather_rng_states` gave them.
        rank: This rank.
        device: Its device.
    """
    if rank < len(states):
        torch.set_rng_state(states[rank]["cpu"])
        if device.type == "cuda" and "cuda" in states[rank]:
            torch.cuda.set_rng_state(states[rank]["cuda"], device)


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
