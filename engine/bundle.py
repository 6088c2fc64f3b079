"""do=bundle: write the bundle of a trained run and compare it with the run on its test set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from datamodules.base import ManifestDataModule
from datamodules.errors import UserError
from datamodules.formats.gray_levels import KEPT_AS_STORED
from datamodules.image_size import SampleKey
from datamodules.loading.cache_builder import load_view
from datamodules.manifest.manifest import get_crop
from deployment.bundle import write_bundle
from deployment.parity import TestImage
from deployment.trained_network import TrainedNetwork, load_trained_network
from engine.data_classes import set_known_classes
from lightning_modules import checkpoint_io
from lightning_modules.instantiation import instantiate_config
from lightning_modules.training_record import RECORD_KEY


def bundle_run(cfg: DictConfig) -> None:
    """Write `bundle/` into the folder of the run that `ckpt_path` names.

    The images of the test set are those of `datamodule`; `datamodule.root=FOLDER` names their
    folder if they moved.

    Raises:
        UserError: No run is named, the data do not fit its network, or the bundle does not decide
            as the run.
    """
    if not cfg.ckpt_path:
        raise UserError("do=bundle needs a trained network; name its run folder with ckpt_path=RUN")
    if not Path(str(cfg.ckpt_path)).expanduser().exists():
        raise UserError(f"ckpt_path={cfg.ckpt_path} does not exist; name a run folder")
    trained = load_trained_network(str(cfg.ckpt_path))
    data = prepare_data(cfg, trained)
    folder, parity = write_bundle(trained, iterate_test_images(data))
    differing = (
        f"{parity.flipped_pixels} of {parity.pixels} pixels and {parity.flipped_images} decisions"
        if parity.pixels
        else f"{parity.flipped_images} decisions"
    )
    print(
        f"compared with the run on {parity.images} test images: {differing} differ, probabilities"
        f" by at most {parity.max_probability_difference:.1g}"
    )
    print(f"bundle: {folder}")


def prepare_data(cfg: DictConfig, trained: TrainedNetwork) -> ManifestDataModule:
    """Build the data module at the image size and the window of the network, and check the data.

    Raises:
        UserError: Classes or channels are others than those of the network, or there is no test
            image.
    """
    path = trained.checkpoints[0]
    set_known_classes(cfg, checkpoint_io.read_metadata(path).get(RECORD_KEY))
    data: ManifestDataModule = instantiate_config(cfg.datamodule)
    data.window = None  # that of the training is used
    checkpoint_io.adopt_image_size(data, path)
    checkpoint_io.adopt_window(data, path)
    data.prepare_data()
    if data.table.classes != trained.module.classes:
        raise UserError(
            f"{trained.folder} tells apart {list(trained.module.classes)}, but the data has"
            f" {list(data.table.classes)}; name the data of the run"
        )
    channels = trained.preprocessing.channels
    if data.channels != channels:
        raise UserError(
            f"{trained.folder} was trained with datamodule.channels={channels}, but this command"
            f" has datamodule.channels={data.channels}; set datamodule.channels={channels}"
        )
    if not len(data.table.where("test")):
        raise UserError(
            f"{data.root} has no test image to compare the bundle with the run on; name the data of"
            " the run with datamodule.root=..."
        )
    return data


def iterate_test_images(data: ManifestDataModule) -> Iterator[TestImage]:
    """Yield every test image, as a test sees it and as the bundle gets it."""
    dataset = data.dataset(evaluation=True)
    size = data.current_image_size()
    for row in data.table.where("test").tolist():
        sample = dataset[SampleKey(row, 0, 0, size)]
        height, width = data.cache.sizes[row].tolist()
        single = _is_single_file(data, row)
        path = Path(str(data.table.rows["image"].iat[row]))
        source: Any = path if single else load_view(data.table, row, data.channels)
        yield TestImage(sample["id"], sample["image"].numpy(), (height, width), source)


def _is_single_file(data: ManifestDataModule, row: int) -> bool:
    """Return True if a row is a whole image file in the orientation that viewers show."""
    kept = int(np.asarray(data.cache.notes[row])) & KEPT_AS_STORED
    parts = data.table.channel_files(row) or data.table.slice_index(row) is not None
    return not (kept or parts or get_crop(data.table, row))
