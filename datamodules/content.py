"""Where the picture lies on its canvas."""

from typing import Any, NamedTuple


class ContentBox(NamedTuple):
    """Place of the picture on its canvas, in pixels; what is outside is padding."""

    top: int
    left: int
    height: int
    width: int

    @property
    def inside(self) -> tuple[Any, slice, slice]:
        """Cuts the padding off an array `... x H x W`, as in `canvas[content.inside]`."""
        return (
            ...,
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )
