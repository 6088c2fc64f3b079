"""Configuration files and Python modules of the user's own, which stand outside the repository.

`conf/` of the folder in which run.py is started is searched before the repository's, and modules
beside it may be named by `_target_` once the key `code` lists them. Imports nothing heavy, and
Hydra only where a run needs it, because the help page is written without it.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONF = Path(__file__).parents[1] / "conf"
ROOT_CONFIG = "run.yaml"


def user_conf() -> Path | None:
    """Return `conf/` of the working folder; None if there is none or it is the repository's."""
    folder = Path("conf").absolute()
    return folder if folder.is_dir() and not folder.samefile(CONF) else None


def conf_folders() -> list[Path]:
    """Return the folders of configuration files, the user's first, as Hydra searches them."""
    own = user_conf()
    return [CONF] if own is None else [own, CONF]


def check_user_conf() -> None:
    """Print which files of the user's `conf/` are taken instead of the repository's.

    Raises:
        UserError: One would replace the root of all configurations.
    """
    own = user_conf()
    if own is None:
        return
    names = [path.relative_to(own) for path in sorted(own.rglob("*.yaml"))]
    if Path(ROOT_CONFIG) in names:
        raise UserError(
            f"{own / ROOT_CONFIG} would replace the defaults of all experiments; rename it, or put"
            f" what differs into {own / 'experiment'}/NAME.yaml"
        )
    for name in names:
        if (CONF / name).is_file():
            print(
                f"conf/{name.as_posix()} of {own.parent} is taken instead of the repository's file"
                " of this name",
                file=sys.stderr,
            )


@contextmanager
def user_code(cfg: "DictConfig") -> Iterator[None]:
    """Let the configuration name the modules that the key `code` lists.

    They are found beside the user's `conf/` (the working folder, or one of `hydra.searchpath`),
    or among the installed packages.

    Args:
        cfg: The configuration of a run, which the command line composed. That of a checkpoint or of
            another run must not be given: it could name any module.

    Raises:
        UserError: A module does not exist, or may not be named.
    """
    from lightning_modules.instantiation import allow_modules

    named = [cfg.code] if isinstance(cfg.code, str) else cfg.code
    if not isinstance(named, Sequence) or not all(isinstance(name, str) for name in named):
        raise UserError(f"code={named} is not allowed; it must be a list of modules, code=[my_net]")
    modules = list(named)
    if not modules:
        yield
        return
    folders = _code_folders()
    for module in modules:
        _check_module(str(module), folders)
    added = [folder for folder in folders if folder not in sys.path]
    sys.path.extend(added)  # behind all others, so that no file there hides a package
    try:
        with allow_modules(modules, folders):
            yield
    finally:
        for folder in added:
            sys.path.remove(folder)


def _code_folders() -> list[str]:
    """Return the working folder, and those that hold the folders of `hydra.searchpath`."""
    from hydra.core.hydra_config import HydraConfig

    places = [Path.cwd()]
    if HydraConfig.initialized():
        sources = HydraConfig.get().runtime.config_sources
        places += [
            Path(source.path).absolute().parent
            for source in sources
            if source.schema == "file" and not Path(source.path).absolute() == CONF
        ]
    return list(dict.fromkeys(map(str, places)))


def _check_module(module: str, folders: Sequence[str]) -> None:
    top = module.partition(".")[0]
    if module.endswith(".py") or not all(part.isidentifier() for part in module.split(".")):
        raise UserError(
            f"code=[{module}] is no name of a module; code=[my_net] stands for my_net.py beside"
            " conf/"
        )
    if top in sys.stdlib_module_names:
        raise UserError(
            f"code=[{module}]: {top} is a module of Python; name a module of your own, such as"
            " code=[my_net] for my_net.py"
        )
    if top in _own_packages():
        raise UserError(
            f"code=[{module}]: {top} is a package of this repository or one that a configuration"
            " may name anyway; name a module of your own, or rename yours"
        )
    own, known = PathFinder.find_spec(top, list(folders)), _find_known(top)
    if own is None and known is None:
        raise UserError(
            f"code=[{module}] is not there: {' and '.join(folders)} has no {top}.py and no folder"
            f" {top}; start in the folder that has it"
        )
    if own is not None and own.origin and known is not None and own.origin != known.origin:
        raise UserError(
            f"code=[{module}]: {own.origin} has the name of {known.origin or 'another module'};"
            " rename it"
        )


def _own_packages() -> set[str]:
    """Return the packages of this repository, and those that a configuration may name anyway."""
    from lightning_modules.instantiation import WHITELIST

    here = {path.parent.name for path in CONF.parent.glob("*/__init__.py")}
    return {*here, *(pattern.partition(".")[0] for pattern in WHITELIST), "hydra_plugins", "run"}


def _find_known(top: str) -> ModuleSpec | None:
    """Return what `import` would take: a module that is loaded, or one of sys.path."""
    try:
        return find_spec(top)
    except ValueError:  # a module that was loaded without a spec
        return None
