"""A yes-or-no question that all ranks answer at every step, without waiting for one another."""

from typing import Any

import torch
from torch import distributed


class AnyRankFlag:
    """Agreement of all ranks on whether any of them said yes.

    All ranks get the answer at the same step, one step later; with one process at once. The flags
    travel over the CPUs (gloo) while the next step computes, so that no GPU has to be waited for.

    Args:
        world_size: Number of processes; each makes one of these at the same time.
    """

    def __init__(self, world_size: int) -> None:
        self._group: Any = distributed.new_group(backend="gloo") if world_size > 1 else None
        self._flag = torch.zeros(1)
        self._work: Any = None

    def poll(self, mine: bool) -> bool:
        """Return whether any rank said yes up to the last step; all ranks call it at every step.

        Args:
            mine: What this rank says.
        """
        if self._group is None:
            return mine
        said = self._collect()
        self._flag = torch.tensor([float(mine)])
        self._work = distributed.all_reduce(
            self._flag, distributed.ReduceOp.MAX, group=self._group, async_op=True
        )
        return said

    def sync(self, mine: bool) -> bool:
        """Return whether any rank said yes up to now; all ranks call it, and wait for each other.

        Args:
            mine: What this rank says.
        """
        if self._group is None:
            return mine
        before = self._collect()
        flag = torch.tensor([float(mine or before)])
        distributed.all_reduce(flag, distributed.ReduceOp.MAX, group=self._group)
        return bool(flag)

    def _collect(self) -> bool:
        if self._work is None:
            return False
        self._work.wait()
        self._work = None
        return bool(self._flag)
