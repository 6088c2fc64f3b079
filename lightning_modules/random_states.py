"""States of PyTorch's random generators, one per rank, as a checkpoint keeps them.

The next dropout follows from them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, distributed

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
