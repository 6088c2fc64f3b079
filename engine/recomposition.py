"""Composition of a command that uses a finished run: the run's own overrides come first.

`do=[test] ckpt_path=RUN` needs no other word. The overrides that RUN was composed from are put
before those of the command, in Hydra's order, so that the words of the command win. This module
imports nothing heavy.
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from datamodules.arguments import format_config_value
from datamodules.errors import UserError
from engine.data_classes import FROM_DATA
from engine.overrides import PATH_KEY
from engine.run_references import is_latest, latest_run
from lightning_modules.launch_environment import rank
from reporting.commands import quote_override
from reporting.config_diff import SWEEP_OVERRIDE_PREFIXES, flatten_config
from reporting.file_io import read_yaml
from reporting.fold_runs import find_fold_run_folders
from reporting.run_folder import CONFIG_FILE, OVERRIDES_FILE, RunFolder

HYDRA_FILE = ".hydra/hydra.yaml"
# of a run: its folders, its state and its training, which a later command has its own of
FOREIGN_KEYS = (
    *("do", "ckpt_path", "init_from", "resume", "changed_settings", "runs", "name"),
    *("debug", "hparams_search", "datamodule.cls_prob"),
    "code",  # another run's folder must not add a module whose code is then executed
)
FOREIGN_PREFIXES = ("paths.", "hydra", "preparation.", *SWEEP_OVERRIDE_PREFIXES)
# the machine may be another one, and the precision of an evaluation is that of its own key
MACHINE_KEYS = (
    *("trainer", "trainer.devices", "trainer.num_nodes", "trainer.accelerator", "trainer.strategy"),
    *("trainer.precision", "trainer.sync_batchnorm", "trainer.benchmark", "trainer.profiler"),
    *("trainer.fast_dev_run", "trainer.overfit_batches"),
)
# what the network sees of an image, also if the images are those of another data set
INPUT_KEYS = (
    *("image_size", "channels", "window", "frame", "axis", "max_pixels", "cache_size"),
    *("evaluation_size", "batch_size", "eval_batch_size", "num_workers"),
)
# keys of the module that do not change its answers, or that the weights of a checkpoint replace
TRAINING_KEYS = (
    *("optimizer", "scheduler", "loss", "monitor", "measurements", "compile", "channels_last"),
    *("encoder_lr_mult", "layer_decay", "auxiliary_weight"),
)
WEIGHT_KEYS = ("weights", "weights_folder", "gradient_checkpointing", "image_size")
# keys that give the labels of the data set their meaning
LABEL_KEYS = ("mask_values", "ignore_value", "inverted_masks", "categories", "columns")
COMPARED_KEYS = ("image_size", "evaluation_size", "datamodule.channels", "module")


def recompose(words: Sequence[str]) -> list[str]:
    """Put a run's own overrides before those of a command that tests, predicts or exports it.

    Args:
        words: Arguments of the command line, as Hydra accepts them.

    Returns:
        The arguments, unchanged if they name no run whose overrides are known.
    """
    named = _value(words, "ckpt_path")
    steps = _steps(words)
    continues = not steps or "fit" in steps
    if named is None or (
        continues and (_value(words, "resume") or _value(words, "experiment"))
    ):  # such a fit is described completely
        return list(words)
    run = _find_run(named, words)
    if run is None:
        _require_experiment(words, named, continues)
        return list(words)
    if is_latest(named):
        words = _replace(words, "ckpt_path", run)
    own = _own_overrides(run, continues)
    if _is_ensemble(named, run):
        own = [word for word in own if _key(word) != "fold"]
    chosen = _data_words(words, steps, run)
    words = [*chosen, *words]
    if any(_key(word) == "datamodule" for word in words):
        own = [word for word in own if _is_input(word)]
    set_here = {_key(word) for word in words if "=" in word or word.startswith("~")}
    replaced = tuple(
        f"{key.replace('/', '.')}." for key in set_here - {"datamodule"} if "." not in key
    )  # groups such as callbacks=[...], whose keys may be others now
    taken = [
        word for word in own if _key(word) not in set_here and not _key(word).startswith(replaced)
    ]
    if rank() == 0 and taken and not any(word.startswith("-") for word in words if word != "-m"):
        images = f"; for these images: {shlex.join(chosen)}" if chosen else ""
        print(f"settings of {named}: {shlex.join(taken)}{images}")
    return [*taken, *words]


def check_unchanged(cfg: DictConfig, run: Path | None, overrides: Iterable[str]) -> None:
    """Refuse a network that differs from its run's because files of `conf/` changed since.

    Args:
        cfg: Configuration of the command, composed with the run's overrides.
        run: Folder of the run; None if unknown, which compares nothing.
        overrides: Overrides of the command; what they set on purpose is not compared here.

    Raises:
        UserError: Values differ; the message names the keys and both values.
    """
    before = {} if run is None else RunFolder(run).config
    if run is None or not before:
        return
    known = set(RunFolder(run).overrides)
    given = {_key(word).replace("/", ".") for word in overrides if word not in known}
    changed = [
        (key, then, now)
        for key, then, now in _differences(before, cfg)
        if not any(_lies_within(key, place) for place in given)
    ]
    if changed:
        key, then, now = changed[0]
        others = f" and {len(changed) - 1} more keys" if len(changed) > 1 else ""
        raise UserError(
            f"{key}={_show(now)}{others}, but {run / CONFIG_FILE} has {_show(then)}, because the"
            f" files of conf/ have changed since that run; set"
            f" {' '.join(f'{name}={_show(value)}' for name, value, _ in changed[:4])}, or restore"
            " the files"
        )


def describe_other_labels(run: Path | None, cfg: DictConfig, overrides: Iterable[str]) -> str:
    """Describe how a test reads labels differently than the training did; empty if it does not.

    Args:
        run: Folder of the run whose network is tested; None if unknown.
        cfg: Configuration of the command.
        overrides: Overrides of the command.
    """
    before = {} if run is None else RunFolder(run).config.get("datamodule") or {}
    given = {_key(word).split(".")[1] for word in overrides if _key(word).startswith("datamodule.")}
    changed = []
    for name in LABEL_KEYS:
        now = _plain(cfg, f"datamodule.{name}")
        if name in given and name in before and before[name] != now:
            changed.append(f"datamodule.{name}={_show(now)}, in training {_show(before[name])}")
    return f"labels are read by {'; '.join(changed)}" if changed else ""


def find_run(path: str) -> Path | None:
    """Return the run folder of a checkpoint, a run folder or folds; None if there is none.

    Args:
        path: Value of `ckpt_path`.
    """
    place = Path(path).expanduser()
    if place.is_file():
        place = place.parents[1] if place.parent.name == "checkpoints" else place.parent
    if (place / OVERRIDES_FILE).is_file():
        return place
    folds = find_fold_run_folders(place) if place.is_dir() else []
    return folds[0][0] if folds and (folds[0][0] / OVERRIDES_FILE).is_file() else None


def _require_experiment(words: Sequence[str], named: str, continues: bool) -> None:
    """Refuse a checkpoint of unknown settings whose experiment is not named either."""
    if continues or _value(words, "experiment") or not Path(named).expanduser().is_file():
        return
    raise UserError(
        f"ckpt_path={named} lies in no run folder ({OVERRIDES_FILE} is missing beside it), so its"
        " settings are unknown; name the run folder, or add experiment=... with its overrides"
    )


def _find_run(named: str, words: Sequence[str]) -> Path | None:
    if not is_latest(named):
        return find_run(named)
    runs = Path(_value(words, "paths.runs") or "runs").expanduser()
    found = latest_run(named.removeprefix("latest:"), runs, phantom=None)
    return None if found is None else found.absolute()


def _is_ensemble(named: str, run: Path) -> bool:
    """Return True if a command names several folds, of which `run` is the first."""
    place = Path(named).expanduser()
    return place.is_dir() and place.resolve() in run.resolve().parents


def _own_overrides(run: Path, continues: bool) -> list[str]:
    """Return the overrides of a run that a later command takes, with its experiment first."""
    folder = RunFolder(run)
    words = [word for word in folder.overrides if _is_taken(word, continues)]
    if not any(_key(word) == "experiment" for word in words):
        words = [*_chosen_experiment(run), *words]
    return [_absolute(word, run) for word in words]


def _is_taken(word: str, continues: bool) -> bool:
    key = _key(word)
    if key in FOREIGN_KEYS or key.startswith(FOREIGN_PREFIXES):
        return False
    return continues or key not in MACHINE_KEYS


def _chosen_experiment(run: Path) -> list[str]:
    """Return the experiment of a run that was started without naming one."""
    choices = ((_hydra_settings(run).get("runtime") or {}).get("choices")) or {}
    chosen = choices.get("experiment")
    return [f"experiment={chosen}"] if isinstance(chosen, str) else []


def _hydra_settings(run: Path) -> Mapping[str, Any]:
    try:
        found = read_yaml(run / HYDRA_FILE)
    except (UserError, ValueError, yaml.YAMLError):  # such as the folder of one fold of several
        return {}
    return (found or {}).get("hydra") or {}


def _absolute(word: str, run: Path) -> str:
    """Return an override whose path was relative to the folder in which the run was started."""
    key, _, value = word.partition("=")
    path = Path(value.strip("'\""))
    if not PATH_KEY.search(key) or path.is_absolute() or is_latest(value) or path.exists():
        return word
    started_in = (_hydra_settings(run).get("runtime") or {}).get("cwd")
    there = None if started_in is None else Path(started_in) / path
    return quote_override(key, there) if there is not None and there.exists() else word


def _data_words(words: Sequence[str], steps: Sequence[str], run: Path) -> list[str]:
    """Return the words that choose the images, as far as the command leaves them open.

    A folder that is given for a prediction is any folder of images, and one that is given for a
    test is real data. Without one, or with that of the run, the images are those of the run.
    """
    given = {_key(word) for word in words}
    data = RunFolder(run).config.get("datamodule") or {}
    root, named = str(data.get("root")), _value(words, "datamodule.root")
    if named is not None and Path(named).expanduser().resolve() != Path(root).resolve():
        chosen = [] if steps != ["predict"] or "datamodule" in given else ["datamodule=folder"]
        # an experiment's transforms need not be keys of the folder's, which trains nothing
        missing = ["datamodule.phantom"] + ["datamodule.augmentation"] * bool(chosen)
        return [*chosen, *(f"{key}=null" for key in missing if key not in given)]
    if named is not None or "datamodule" in given or data.get("phantom") or not Path(root).is_dir():
        return []
    return [quote_override("datamodule.root", Path(root).absolute())]


def _is_input(word: str) -> bool:
    """Return True for an override that also holds for the images of another data set."""
    key = _key(word)
    if key != "datamodule" and not key.startswith(("datamodule.", "datamodule/")):
        return True
    return key.removeprefix("datamodule.").partition(".")[0] in INPUT_KEYS


def _differences(before: Mapping[str, Any], cfg: DictConfig) -> list[tuple[str, Any, Any]]:
    """Return key, value of the run and value here, where the network or its input differ."""
    found = []
    for place in COMPARED_KEYS:
        values = (_select(before, place), _plain(cfg, place))
        then, now = (flatten_config({place: value}) for value in values)
        for key in dict.fromkeys([*then, *now]):
            if not _is_of_training(key) and then.get(key) != now.get(key):
                if not str(now.get(key)).startswith(FROM_DATA):
                    found.append((key, then.get(key), now.get(key)))
    return found


def _is_of_training(key: str) -> bool:
    parts = key.split(".")
    return parts[0] == "module" and (parts[-1] in WEIGHT_KEYS or parts[1] in TRAINING_KEYS)


def _plain(cfg: DictConfig, key: str) -> Any:
    found = OmegaConf.select(cfg, key)
    return OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found


def _select(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = (value or {}).get(name)
    return value


def _lies_within(key: str, place: str) -> bool:
    return key == place or key.startswith(f"{place}.")


def _show(value: Any) -> str:
    return format_config_value(value)


def _key(word: str) -> str:
    """Return the key of an override, without its sign and package."""
    return re.split(r"[=@]", word.lstrip("+~"), maxsplit=1)[0]


def _value(words: Sequence[str], key: str) -> str | None:
    """Return the value of the last override of a key; None if it is missing or null."""
    found = [word.partition("=")[2] for word in words if "=" in word and _key(word) == key]
    value = found[-1].strip("'\"") if found else "null"
    return None if value == "null" else value


def _steps(words: Sequence[str]) -> list[str]:
    return re.findall(r"\w+", _value(words, "do") or "")


def _replace(words: Sequence[str], key: str, path: Path) -> list[str]:
    return [quote_override(key, path) if _key(word) == key else word for word in words]
