"""Imports of smp and timm without W&B.

timm would import W&B for a log writer that is not used here, which costs a second at every start.
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
