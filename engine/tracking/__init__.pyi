from .logger import PrivateWandbLogger

__all__ = [
    "PrivateWandbLogger",
]
