"""Lists of all ranks."""

from typing import Any

import torch


def all_gather_lists(world_size: int, *mine: list[Any]) -> list[list[Any]]:
    """Gather each of several lists over all processes."""
    parts: list[Any] = [mine] * world_size
    if world_size > 1:
        torch.distributed.all_gather_object(parts, mine)
    return [[each for part in parts for each in part[number]] for number in range(len(mine))]
