"""Choice of the network that is shown, and refusal of images that test does not have."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from lightning import LightningModule
from torch import nn

from datamodules.manifest import Manifest
from datamodules.refusal import UserError
from lightning_modules.together import Ensemble

FEATURE_MAPS_KEY = "callbacks.feature_maps"


def first_network(module: LightningModule) -> nn.Module:
    """Return the module's network, the first where it is several together."""
    net: Any = module.net
    return net.nets[0] if isinstance(net, Ensemble) else net


def check_images(ids: Sequence[str], table: Manifest) -> None:
    """Refuses an image that test does not have, and names the nearest ones."""
    known = table.rows["id"][table.rows["split"] == "test"].tolist()
    for id in ids:
        if id not in known:
            near = get_close_matches(id, known, n=3, cutoff=0.4) or known[:3]
            raise UserError(
                f"{FEATURE_MAPS_KEY}.ids names {id}, which is no image of test; did you mean"
                f" {' or '.join(near)}?"
            )
