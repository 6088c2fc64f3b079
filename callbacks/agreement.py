"""A question that every rank answers at every step, and all get the same answer to, without a step that waits for another's."""

from typing import Any

import torch
from torch import distributed


class Agreement:
    """Whether any rank said yes; all ranks hear of it at the same step, one step later. With one process at once.

    The flags travel over the CPUs (gloo) while the next step computes, so that no GPU has to be
    waited for.

    Args:
        world_size: Number of processes; each makes one of these at the same time.
    """

    def __init__(self, world_size: int) -> None:
        self._group: Any = distributed.new_group(backend="gloo") if world_size > 1 else None
        self._flag = torch.zeros(1)
        self._work: Any = None

    def step(self, mine: bool) -> bool:
        """What was said up to the last step; called by all ranks at every step.

        Args:
            mine: What this rank says.
        """
        if self._group is None:
            return mine
        said = self._settle()
        self._flag = torch.tensor([float(mine)])
        self._work = distributed.all_reduce(
            self._flag, distributed.ReduceOp.MAX, group=self._group, async_op=True
        )
        return said

    def now(self, mine: bool) -> bool:
        """What was said up to now; waits for all ranks, and is called by all of them.

        Args:
            mine: What this rank says.
        """
        if self._group is None:
            return mine
        before = self._settle()
        flag = torch.tensor([float(mine or before)])
        distributed.all_reduce(flag, distributed.ReduceOp.MAX, group=self._group)
        return bool(flag)

    def _settle(self) -> bool:
        if self._work is None:
            return False
        self._work.wait()
        self._work = None
        return bool(self._flag)


def gathered(world_size: int, *mine: list[Any]) -> list[list[Any]]:
    """Each of several lists, of all processes together."""
    parts: list[Any] = [mine] * world_size
    if world_size > 1:
        torch.distributed.all_gather_object(parts, mine)
    return [[each for part in parts for each in part[number]] for number in range(len(mine))]
