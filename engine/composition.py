"""Composition of a run from Python, as on the command line, in a folder of its own.

This module imports nothing heavy.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from datamodules.errors import UserError
from engine.cli import user_message
from engine.run_lock import claim_folder
from engine.user_code import CONF
from lightning_modules.launch_environment import rank
from reporting.run_folder import RunFolder


def compose_run(overrides: Sequence[str]) -> DictConfig:
    """Compose a run including Hydra's own configuration; nothing is written.

    Args:
        overrides: Overrides as on the command line, the experiment among them.

    Raises:
        UserError: The overrides cannot be composed; the message is that of the command line.
    """
    try:
        if GlobalHydra.instance().is_initialized():
            return compose("run", list(overrides), return_hydra_config=True)
        with initialize_config_dir(str(CONF)):
            return compose("run", list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        sentence, _ = user_message(error, overrides) or (str(error), 2)
        raise UserError(sentence) from error


def remove_foreign_keys(cfg: DictConfig) -> None:
    """Remove what an experiment sets for its own data set if the command line chose another one.

    So `experiment=weak_bone_scan datamodule=folder` takes the folder without `view`, which only
    bone scans have.

    Args:
        cfg: The configuration of a run, which Hydra composed.

    Raises:
        UserError: The command line itself sets a key that the chosen data set does not have.
    """
    if not HydraConfig.initialized():
        return
    chosen = HydraConfig.get().runtime.choices.get("datamodule")
    words = list(HydraConfig.get().overrides.task)
    if f"datamodule={chosen}" not in words:
        return
    known = _data_set_keys(str(chosen))
    for key in [str(key) for key in cfg.datamodule if key not in known]:
        if any(re.match(rf"datamodule\.{key}(\.|=)", word) for word in words):
            near = get_close_matches(key, known, n=1)
            raise UserError(
                f"datamodule.{key} is not a key of datamodule={chosen}; "
                + (f"did you mean datamodule.{near[0]}?" if near else "leave it out")
            )
        if not any(word.startswith(f"+datamodule.{key}") for word in words):
            with open_dict(cfg):
                del cfg.datamodule[key]


def _data_set_keys(name: str) -> set[str]:
    """Return the keys of a file in conf/datamodule, composed by itself."""
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else initialize_config_dir(str(CONF)):
        return set(map(str, compose(f"datamodule/{name}").datamodule))


ENCODER_GROUP = "module/net/encoder"
OWN_BACKBONE = ("lightning_modules.networks.UperNet",)  # networks that take no encoder


def remove_foreign_encoder(cfg: DictConfig) -> None:
    """Remove the encoder that an experiment chose if the network has a backbone of its own.

    So `experiment=segmentation module/net=upernet_swin` takes the network without the encoder.

    Args:
        cfg: The configuration of a run, which Hydra composed.

    Raises:
        UserError: The command line itself chooses an encoder.
    """
    net = cfg.module.net
    if net.get("_target_") not in OWN_BACKBONE or "encoder" not in net:
        return
    words = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    own = [word for word in words if re.match(r"\+*module[./]net[./]encoder\b", word)]
    if own:
        raise UserError(
            f"{own[0]} is not possible, because this network has a backbone of its own; leave it"
            " out, or take a network with an encoder, such as module/net=unet"
        )
    with open_dict(cfg):
        del cfg.module.net["encoder"]


def check_chosen_encoder(cfg: DictConfig) -> None:
    """Refuse an encoder of the command line that the values of an experiment or scale replace.

    Args:
        cfg: Configuration of a run.

    Raises:
        UserError: The network has another encoder than the one that was chosen.
    """
    if not HydraConfig.initialized():
        return
    words = list(HydraConfig.get().overrides.task)
    chosen = HydraConfig.get().runtime.choices.get(ENCODER_GROUP)
    given = [f"{ENCODER_GROUP}={chosen}", f"{ENCODER_GROUP}@module.net.encoder={chosen}"]
    if not set(given) & set(words) or any("module.net.encoder.name=" in word for word in words):
        return
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else initialize_config_dir(str(CONF)):
        name = compose(f"{ENCODER_GROUP}/{chosen}").module.net.encoder.name
    found = OmegaConf.select(cfg, "module.net.encoder.name")
    if found != name:
        raise UserError(
            f"{ENCODER_GROUP}={chosen} has no effect, because the experiment or its demo scale sets"
            f" module.net.encoder.name={found}; write module.net.encoder.name={name}"
            " module.net.encoder.weights=imagenet instead"
        )


@contextmanager
def composed_run(
    composed: DictConfig, overrides: Sequence[str], folder: Path | None = None
) -> Iterator[DictConfig]:
    """Create the folder of a composed run, with its overrides and configuration.

    Within the context, `${hydra:...}` and Hydra's own configuration are those of this run, even
    inside another run that Hydra started.

    Args:
        composed: Result of `compose_run`.
        overrides: Overrides of the run.
        folder: Run folder; None uses `hydra.run.dir`, by default a new folder below `paths.runs`
            that is named by the time.

    Yields:
        The configuration without Hydra's, with the folder as `paths.run`.
    """
    instance = HydraConfig.instance()
    before = instance.cfg
    instance.set_config(composed)
    try:
        if folder is None:
            folder = Path(composed.hydra.run.dir)
            if not any(word.startswith("hydra.run.dir=") for word in overrides):
                folder = claim_folder(folder)
        folder = folder.absolute()
        with read_write(composed.hydra.runtime), open_dict(composed.hydra.runtime):
            composed.hydra.runtime.output_dir = str(folder)
        instance.set_config(composed)
        cfg = composed.copy()
        with open_dict(cfg):
            del cfg["hydra"]
        if rank() == 0:
            RunFolder(folder).write_composition(cfg, overrides)
        yield cfg
    finally:
        instance.cfg = before
