from .base import Masks, Segmenter
from .classical import GrabCutSegmenter, RandomWalkerSegmenter
from .sam2 import SAM2Segmenter

__all__ = [
    "GrabCutSegmenter",
    "Masks",
    "RandomWalkerSegmenter",
    "SAM2Segmenter",
    "Segmenter",
]
