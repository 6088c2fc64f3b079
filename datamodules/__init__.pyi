from .base import ManifestDataModule
from .bone_scan import BoneScanDataModule
from .brain_tumor import BrainTumorDataModule
from .chest_xray import ChestXrayDataModule
from .chestx_det import ChestXDetDataModule
from .errors import UserError
from .folder import FolderDataModule
from .image_size import ImageSize, SampleKey
from .own_data import OwnDataModule
from .pneumothorax import PneumothoraxDataModule
from .sampling.config import EpochConfig, SamplingConfig
from .table import TableDataModule

__all__ = [
    "BoneScanDataModule",
    "BrainTumorDataModule",
    "ChestXDetDataModule",
    "ChestXrayDataModule",
    "EpochConfig",
    "FolderDataModule",
    "ImageSize",
    "ManifestDataModule",
    "OwnDataModule",
    "PneumothoraxDataModule",
    "SampleKey",
    "SamplingConfig",
    "TableDataModule",
    "UserError",
]
