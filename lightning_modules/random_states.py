"""States of PyTorch's random generators, one per rank, as a checkpoint keeps them.

The next dropout follows from them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, distributed

State = dict[str, Tensor]


def part_ways(rank: int) -> None:
    """Seed all ranks but the first differently.

    They were seeded alike, and would otherwise drop the same units of different images.
    """
    if rank > 0:
        torch.manual_seed(torch.initial_seed() + rank)


def of_all_ranks(device: torch.device) -> list[State]:
    """Return the state of each rank, in their order; all ranks call it at once.

    Args:
        device: Device of this rank.
    """
    own = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    if not (distributed.is_available() and distributed.is_initialized()):
        return [own]
    states: list[State] = [{}] * distributed.get_world_size()
    distributed.all_gather_object(states, own)
    return states


def take_back(states: Sequence[State], rank: int, device: torch.device) -> None:
    """Restore this rank's generators; ranks that the checkpoint does not know keep theirs.

    Args:
        states: As `of_all_ranks` gave them.
        rank: This rank.
        device: Its device.
    """
    if rank < len(states):
        torch.set_rng_state(states[rank]["cpu"])
        if device.type == "cuda" and "cuda" in states[rank]:
            torch.cuda.set_rng_state(states[rank]["cuda"], device)
