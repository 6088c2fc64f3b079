"""Classes that an experiment takes from its data: `${data:classes}` in the configuration.

`experiment=segmentation` knows neither the names nor the number of the classes before it has read
the data, so its files hold `module.classes: ${data:classes}`, `module.exclusive: ${data:exclusive}`
and `module.net.classes: ${data:channels}`. They are replaced here, before a network is built.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from datamodules.errors import UserError

FROM_DATA = "${data:"
EXCLUSIVE_KEYS = ("module.exclusive",)
CHANNEL_KEYS = ("module.net.classes",)


def set_known_classes(cfg: DictConfig, record: Mapping[str, Any] | None = None) -> None:
    """Set the classes as far as they are known before the data is read; the others become null.

    Args:
        cfg: Configuration of a run; changed in place.
        record: Training record of the checkpoint that is evaluated, which knows its classes.
    """
    for key in ("module.classes", *EXCLUSIVE_KEYS, *CHANNEL_KEYS):
        if _is_open(cfg, key):
            OmegaConf.update(cfg, key, None)
    if record is not None:
        _fill(cfg, record["classes"], bool(record.get("exclusive", False)))


def set_classes_from_data(cfg: DictConfig, table: Any) -> None:
    """Set the classes that are still null to those of the data.

    Args:
        cfg: Configuration of a run; changed in place.
        table: Checked manifest of the data.
    """
    _fill(cfg, table.classes, bool(table.exclusive))


def _fill(cfg: DictConfig, classes: Sequence[str], exclusive: bool) -> None:
    if cfg.module.classes is None:
        OmegaConf.update(cfg, "module.classes", list(classes))
    values: dict[str, Any] = dict.fromkeys(EXCLUSIVE_KEYS, exclusive)
    values |= dict.fromkeys(CHANNEL_KEYS, len(cfg.module.classes))
    for key, value in values.items():
        if OmegaConf.select(cfg, key, default=value) is None:
            OmegaConf.update(cfg, key, value)


def _is_open(cfg: DictConfig, key: str) -> bool:
    """Return True if a key is taken from the data."""
    parent, _, name = key.rpartition(".")
    place = OmegaConf.select(cfg, parent)
    known = OmegaConf.is_dict(place) and name in place
    if not known or not OmegaConf.is_interpolation(place, name):
        return False
    written: Any = OmegaConf.to_container(place, resolve=False)
    return str(written[name]).startswith(FROM_DATA)


def refuse_open_classes(cfg: DictConfig) -> None:
    """Refuse a step that needs a network of known classes, without data to take them from.

    Raises:
        UserError: The classes are taken from the data.
    """
    if _is_open(cfg, "module.classes"):
        raise UserError(
            "module.classes is taken from the data, which this step does not read; set"
            " module.classes=[...]"
        )
