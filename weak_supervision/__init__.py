"""Image labels to class activation maps, boxes, pseudo masks and quality control."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
