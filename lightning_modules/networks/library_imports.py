"""Imports of smp and timm without W&B.

timm would import it for a log writer that nothing here calls, which takes a second of every start.
"""

import sys

_loaded = sys.modules.get("wandb")
sys.modules["wandb"] = None  # type: ignore[assignment]  # an import of it fails, which timm bears
try:
    import segmentation_models_pytorch as smp
    import timm
finally:
    del sys.modules["wandb"]
    if _loaded is not None:
        sys.modules["wandb"] = _loaded

__all__ = ["smp", "timm"]
