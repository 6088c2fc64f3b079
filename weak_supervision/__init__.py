"""Weak supervision: from image labels to class activation maps, boxes, pseudo masks and checks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
