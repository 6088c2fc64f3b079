"""The states of PyTorch's random generators, one a rank, as a checkpoint keeps them: what dropout will draw next."""

from collections.abc import Sequence

import torch
from torch import Tensor, distributed

State = dict[str, Tensor]


def part_ways(rank: int) -> None:
    """Seeds all ranks but the first anew; they were seeded alike, and would else drop the same units of different images."""
    if rank > 0:
        torch.manual_seed(torch.initial_seed() + rank)


def of_all_ranks(device: torch.device) -> list[State]:
    """The state of each rank, in their order; called by all of them at once.

    Args:
        device: Of this rank.
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
    """Sets this rank's generators to what they were; ranks that the checkpoint does not know keep theirs.

    Args:
        states: As `of_all_ranks` gave them.
        rank: This one.
        device: Of it.
    """
    if rank < len(states):
        torch.set_rng_state(states[rank]["cpu"])
        if device.type == "cuda" and "cuda" in states[rank]:
            torch.cuda.set_rng_state(states[rank]["cuda"], device)
