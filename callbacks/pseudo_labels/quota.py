"""How many images above the threshold are still wanted of a split."""

from collections import Counter

from datamodules.refusal import UserError


class Quota:
    """At most so many of each split.

    Args:
        most: None for all.
        key: What errors call it.

    Raises:
        Refusal: no number of images.
    """

    def __init__(self, most: int | None, key: str) -> None:
        if most is not None and not (isinstance(most, int) and most >= 0):
            raise UserError(f"{key}={most} is no number of images; take 0 or more, or null for all")
        self.most, self._taken = most, Counter[str]()

    def begin(self) -> None:
        """Forgets what was taken."""
        self._taken.clear()

    def takes(self, split: str) -> bool:
        """Whether another image of a split is wanted; then it counts as taken."""
        if self.most is not None and self._taken[split] >= self.most:
            return False
        self._taken[split] += 1
        return True
