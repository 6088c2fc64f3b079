"""How many images above the threshold are still wanted of a split."""

from collections import Counter

from datamodules.refusal import UserError


class PerSplitLimit:
    """At most so many of each split.

    Args:
        limit: None for all.
        key: What errors call it.

    Raises:
        Refusal: no number of images.
    """

    def __init__(self, limit: int | None, key: str) -> None:
        if limit is not None and not (isinstance(limit, int) and limit >= 0):
            raise UserError(
                f"{key}={limit} is no number of images; take 0 or more, or null for all"
            )
        self.limit, self._taken = limit, Counter[str]()

    def reset(self) -> None:
        """Forgets what was taken."""
        self._taken.clear()

    def take(self, split: str) -> bool:
        """Whether another image of a split is wanted; then it counts as taken."""
        if self.limit is not None and self._taken[split] >= self.limit:
            return False
        self._taken[split] += 1
        return True
