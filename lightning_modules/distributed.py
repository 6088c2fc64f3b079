"""Collective operations over ranks: random states, BatchNorm statistics and lists."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

Gathered = TypeVar("Gathered")


def all_gather(mine: Gathered) -> list[Gathered]:
    """Return the object of each rank, in the order of ranks; all ranks must call it together.

    It is pickled, so lists may differ in length between ranks and may be empty.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return [mine]
    parts = [mine] * distributed.get_world_size()
    distributed.all_gather_object(parts, mine)
    return parts


def all_gather_lists(*mine: list[Any]) -> list[list[Any]]:
    """Gather each of several lists over all ranks, and concatenate the parts of each."""
    parts = all_gather(mine)
    return [[each for part in parts for each in part[number]] for number in range(len(mine))]


RNGState = dict[str, Tensor]


def decorrelate_ranks(rank: int) -> None:
    """Seed all ranks but the first differently.

    Otherwise they have the same seed, and dropout would drop the same units on all ranks.
    """
    if rank > 0:
        torch.manual_seed(torch.initial_seed() + rank)


def gather_rng_states(device: torch.device) -> list[RNGState]:
    """Return the random state of each rank, in order; all ranks must call it together.

    Args:
        device: Device of this rank.
    """
    own = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    return all_gather(own)


def restore_rng_state(states: Sequence[RNGState], rank: int, device: torch.device) -> None:
    """Restore this rank's generators; a rank without a stored state keeps its own.

    Args:
        states: Result of `gather_rng_states`.
        rank: Number of this rank.
        device: Device of this rank.
    """
    if rank < len(states):
        torch.set_rng_state(states[rank]["cpu"])
        if device.type == "cuda" and "cuda" in states[rank]:
            torch.cuda.set_rng_state(states[rank]["cuda"], device)


def broadcast_batchnorm(net: nn.Module) -> None:
    """Broadcast the BatchNorm statistics of the first rank, which a checkpoint stores.

    All ranks must call it together, before a validation. DDP would do so before every forward pass,
    but training uses the statistics of the batch.
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
