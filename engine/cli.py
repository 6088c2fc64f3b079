"""Texts of the command line: the help page and one-sentence errors."""

import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.errors import UserError
from datamodules.file_errors import file_error
from engine.user_code import CONF, conf_folders
from reporting.commands import PROGRAM

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP_LINES = """
  scale=demo                       run any experiment on phantoms, in minutes on a CPU
  do=[test] ckpt_path=RUN          evaluate again (RUN is a run folder or a .ckpt)
  do=[predict] ckpt_path=RUN       write masks or probabilities of test, or of any images with \
  datamodule.root=DIR
  do=bundle ckpt_path=RUN          write RUN/bundle: the network and a predict.py without PyTorch
  do=[compare] runs=[A,B]          compare finished runs, with intervals of their differences
  do=[inspect]                     what the data set holds and how it is read, with pictures
  do=[export]                      write the data set as PNGs and a meta.json
  do=[crop]                        crop the train images to squares around the lesion
  do=[doctor]                      check this machine: hardware, speed, and what would stop a run
  -m hparams_search=NAME           search a space of conf/hparams_search with Optuna
  do=[wandb_sweep]                 write the same search as a W&B sweep
  ckpt_path=RUN                    continue exactly where RUN stopped
  init_from=RUN                    start from the weights of RUN only
  folds=5                          run five fits and write one out-of-fold report
  experiment=NAME --cfg job        print every key and its value"""


def help_text() -> str:
    """List the experiments with their one-line descriptions, and further commands."""
    lines = [f"{' '.join(PROGRAM)} experiment=NAME [key=value ...]      (-m for a sweep)"]
    *own, repository = conf_folders()
    for title, folder in [
        ("experiments", repository),
        *((f"experiments of your own, in {folder}", folder) for folder in own),
    ]:
        files = sorted((folder / "experiment").glob("*.yaml"))
        if files:
            lines += ["", f"{title}:", *map(_describe_experiment, files)]
    return "\n".join([*lines, HELP_LINES])


def _describe_experiment(path: Path) -> str:
    """Return the name of an experiment and the first line of comment in its file."""
    described = [
        line[1:].strip()
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("# ") and "@package" not in line
    ]
    return f"  {path.stem:<24}{described[0] if described else ''}".rstrip()


def user_message(
    error: BaseException, overrides: Sequence[str] | None = None
) -> tuple[str, int] | None:
    """Return message and exit code of a user error; None for any other error.

    Args:
        error: The error.
        overrides: Overrides that were composed; None uses those of the command line.
    """
    from hydra.errors import HydraException, InstantiationException
    from omegaconf.errors import OmegaConfBaseException

    for cause in _causes(error):
        if isinstance(cause, UserError):
            return str(cause), cause.exit_code
    disk = next(filter(None, map(file_error, _explicit_causes(error))), None)
    if disk is not None:
        return str(disk), disk.exit_code
    if isinstance(error, InstantiationException) or not isinstance(
        error, HydraException | OmegaConfBaseException
    ):
        return None
    text = _override_message(str(error), sys.argv[1:] if overrides is None else overrides)
    place = re.search(r"full_key: (\S+)", str(error))  # where an interpolation cannot be used
    return (f"{place[1]}: {text}" if place and place[1] not in text else text), 2


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explicit_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, but not what was handled before it."""
    while error is not None:
        yield error
        error = error.__cause__


def _override_message(message: str, overrides: Sequence[str]) -> str:
    """Return Hydra's message as one sentence, with the most similar key."""
    text = " ".join(
        line.strip()
        for line in message.splitlines()
        if line.strip() and "full_key" not in line and "object_type" not in line
    )
    option = re.search(r"Could not (?:find|load) '([\w/]+)/([^'/]+)'", message)
    if option:
        return _option_message(*option.groups())
    several = re.search(r"Ambiguous value for argument '([^=]+)=(.*?)'", message)
    if several:
        key, values = several.groups()
        return (
            f"{key}={values} has several values; write {key}=[{values}] for a list, or add -m for a"
            " sweep over them"
        )
    appended = re.search(r"Could not append .* already at '([^']+)'", message)
    if appended:
        return f"{appended[1]} exists already; write {appended[1]}=... without +"
    if "Invalid Defaults List override '/module/net/encoder" in message:
        net = next((word for word in overrides if word.startswith("module/net=")), "module/net")
        return (
            f"{net} has no encoder to choose, and this experiment chooses one; take a network with"
            " an encoder, such as module/net=unet, or an experiment that chooses none, such as one"
            " of your own (docs/your_own.md)"
        )
    wrong = re.search(r"Could not override '([^']+)'", message)
    if not wrong:
        return text
    known = _known_keys(overrides)
    if special := _explain_missing_part(wrong[1], known):
        return special
    near = nearest_key(wrong[1], known)
    return f"{wrong[1]} is not a key of this experiment; " + (
        f"did you mean {near}?" if near else f"{' '.join(PROGRAM)} --cfg job lists all keys"
    )


def _explain_missing_part(key: str, known: Sequence[str]) -> str | None:
    """Explain a key of a part that the run does not have, and that a word adds; else None."""
    if key.startswith("callbacks.") and ".".join(key.split(".")[:2]) not in known:
        name = key.split(".")[1]
        if any((folder / "extra" / f"{name}.yaml").is_file() for folder in conf_folders()):
            return f"{key} needs the callback {name}; add extra={name}"
        if any((folder / "callbacks" / f"{name}.yaml").is_file() for folder in conf_folders()):
            return f"{key} needs the callback {name}; add it with callbacks=[...,{name}]"
    if re.match(r"module\.net\.lora\b", key) and "module.net.lora" not in known:
        return (
            f"{key} is not a key of this network; take module/net=lora for a classifier, or a"
            " segmentation network, such as module/net=unet"
        )
    return None


def nearest_key(word: str, keys: Sequence[str]) -> str | None:
    """Return the key that a user meant: spelled alike, or whose last part has this name or word.

    Examples: `image_sise` is `image_size`, `lr` is `module.optimizer.lr` and `epochs` is
    `trainer.max_epochs`.
    """
    spelled_alike = difflib.get_close_matches(word, keys, n=1, cutoff=0.6)
    if spelled_alike:
        return spelled_alike[0]
    parent, _, name = word.rpartition(".")
    below = [key for key in keys if not parent or key.startswith(f"{parent}.")]
    for fits in (lambda last: last == name, lambda last: name in last.split("_")):
        found = [key for key in below if fits(key.rpartition(".")[2])]
        if found:
            return min(found, key=lambda key: (key.count("."), len(key)))
    return None


def _option_message(group: str, name: str) -> str:
    """Return a message with the choices of a group, or the most similar one."""
    there = sorted(
        {
            path.stem
            for folder in conf_folders()
            for path in (folder / group).glob("*.yaml")
            if not path.stem.startswith("_")
        }
    )
    near = difflib.get_close_matches(name, there, n=1, cutoff=0.6)
    return f"{group}={name} is not there; " + (
        f"did you mean {near[0]}?" if near else f"take one of {', '.join(there)}"
    )


def _known_keys(overrides: Sequence[str]) -> list[str]:
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    chosen = [
        word
        for word in overrides
        if any((folder / word.split("=")[0]).is_dir() for folder in conf_folders())
    ]
    with initialize_config_dir(str(CONF)):
        try:
            cfg = compose(
                "run", [word if "=[" in word else word.split(",")[0] for word in chosen]
            )  # the first one if several are swept
        except HydraException:
            return []

    def iter_keys(node: "DictConfig", prefix: str) -> Iterator[str]:
        """Yield the dotted keys below a node."""
        for name in map(str, node):
            yield f"{prefix}{name}"
            if (
                not OmegaConf.is_interpolation(node, name)
                and not OmegaConf.is_missing(node, name)
                and OmegaConf.is_dict(node[name])
            ):
                yield from iter_keys(node[name], f"{prefix}{name}.")

    return list(iter_keys(cfg, ""))
