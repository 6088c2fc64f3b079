"""Check of a configuration before anything heavy is imported.

The keys at its root and of Lightning's Trainer are checked against the tables below, those of our
own classes against the annotations of their constructors. The annotations are read from the source,
because importing our modules would import torch; the constructors check them again. Nested mappings
that are a `config_dataclass` of a light module are constructed, so that rules between keys are
checked too.
"""

import ast
import builtins
import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field

from datamodules.arguments import (
    AllowedValues,
    ArgumentError,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    check_value,
    describe_unknown,
)
from datamodules.errors import UserError
from lightning_modules.instantiation import allowed_modules, check_target, user_key

Limit = NonNegativeInt | Annotated[Fraction, AllowedValues("a fraction from 0 to 1")] | None
Length = Annotated[
    int, Field(ge=-1), AllowedValues("a whole number of 0 or more, or -1 for no limit")
]
Precision = (
    Literal[
        "auto",
        "32-true",
        "16-mixed",
        "bf16-mixed",
        "16-true",
        "bf16-true",
        "64-true",
        "transformer-engine",
        "transformer-engine-float16",
    ]
    | Literal["16", "bf16", "32", "64", 16, 32, 64]
)

Devices = Annotated[
    str,
    Field(pattern=r"^-1$|^[0-9]+(, *[0-9]+)*,?$"),
    AllowedValues("a number of devices, auto, or their indexes, such as [0,1]"),
]
LearningRate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1), AllowedValues("a text")]
Reference = Annotated[
    str,
    Field(min_length=1),
    AllowedValues("the path of a run folder or a checkpoint, or latest:..."),
]
MISSING = object()  # marks a missing key, because null is a value
TRAINER: dict[str, Any] = {
    "accelerator": Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu", "hpu"],
    "devices": PositiveInt | Literal["auto", -1] | Devices | Sequence[NonNegativeInt],
    "num_nodes": PositiveInt,
    "sync_batchnorm": bool | Literal["auto"],
    "precision": Precision,
    "max_epochs": Length | None,
    "min_epochs": NonNegativeInt | None,
    "max_steps": Length,
    "min_steps": NonNegativeInt | None,
    "accumulate_grad_batches": PositiveInt,
    "gradient_clip_val": NonNegativeFloat | None,
    "gradient_clip_algorithm": Literal["norm", "value"] | None,
    "limit_train_batches": Limit,
    "limit_val_batches": Limit,
    "limit_test_batches": Limit,
    "limit_predict_batches": Limit,
    "overfit_batches": NonNegativeInt,
    "check_val_every_n_epoch": PositiveInt | None,
    "fast_dev_run": bool | NonNegativeInt,
    "num_sanity_val_steps": Annotated[int, Field(ge=-1)] | None,
    "log_every_n_steps": NonNegativeInt | None,
    "deterministic": bool | Literal["warn"] | None,
    "benchmark": bool | None,
    "inference_mode": bool,
    "enable_progress_bar": bool,
    "enable_model_summary": bool,
    "use_distributed_sampler": bool,
}
ROOT: dict[str, Any] = {
    "runs": Annotated[Sequence[Text], AllowedValues("a list of run folders")],
    "paths.runs": Text,
    "paths.cache": Text,
    "paths.weights": Text,
    "module.optimizer.lr": LearningRate,
    "do": Annotated[Text | Sequence[Text], AllowedValues("a list of steps, such as [fit,test]")],
    "ckpt_path": Reference | None,
    "init_from": Reference | None,
    "seed": NonNegativeInt,
    "folds": NonNegativeInt,
    "fold": NonNegativeInt | None,
    "evaluation_precision": Literal["32-true", "16-mixed", "bf16-mixed"],
    "tta": Literal["none", "hflip", "flips", "turns"],
    "average_checkpoints": PositiveInt,
    "resume": Literal["auto"] | None,
    "changed_settings": Literal["refuse", "apply"],
    "private": bool,
    "monitor.name": Text,
    "monitor.mode": Literal["max", "min"],
}


def check_keys(cfg: DictConfig) -> None:
    """Refuse wrong values of the root and the Trainer, before anything is created or written.

    Args:
        cfg: The configuration of a run.

    Raises:
        ArgumentError: A value is not allowed; the message names its key.
    """
    for place, annotations in ((cfg.trainer, TRAINER), (cfg, ROOT)):
        for name, annotation in annotations.items():
            if OmegaConf.select(place, name, default=MISSING) is MISSING:
                continue
            value = OmegaConf.select(place, name)
            key = f"trainer.{name}" if place is cfg.trainer else name
            check_value(
                key,
                OmegaConf.to_container(value) if OmegaConf.is_config(value) else value,
                annotation,
            )


ROOT_FOLDER = Path(__file__).parents[1]
# modules whose names may be used in annotations; they import neither PyTorch nor SciPy or pandas
LIGHT_MODULES = (
    "callbacks.curriculum_stage",
    "collections.abc",
    "datamodules.arguments",
    "datamodules.image_size",
    "datamodules.sampling.config",
    "evaluation.metrics.measurement",
    "evaluation.threshold_objective",
    "lightning_modules.module_config",
    "lightning_modules.pretrained.encoder_config",
    "lightning_modules.networks.lora_config",
    "pathlib",
    "pydantic",
    "typing",
)


class _HeavyNameError(Exception):
    """Error for a name in an annotation that only a heavy import could resolve."""


class _Names(Mapping[str, Any]):
    """Names of a module that annotations use, each evaluated on first use.

    Args:
        module: Dotted name of the module.
        tree: Its syntax tree.
    """

    def __init__(self, module: str, tree: ast.Module) -> None:
        self.module = module
        self._imports = {
            alias.asname or alias.name: (node.module, alias.name)
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        self._assigned = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        self._builtins = vars(builtins)

    def __getitem__(self, name: str) -> Any:
        if self.module in LIGHT_MODULES and name not in self._builtins:
            return getattr(importlib.import_module(self.module), name)
        if name in self._imports:
            module, original = self._imports[name]
            if module not in LIGHT_MODULES:
                raise _HeavyNameError(name)
            return getattr(importlib.import_module(str(module)), original)
        if name in self._assigned:
            return self.evaluate(self._assigned[name])
        if name in self._builtins:
            return self._builtins[name]
        raise _HeavyNameError(name)

    def __iter__(self) -> Iterator[str]:
        return iter((*self._imports, *self._assigned))

    def __len__(self) -> int:
        return len(self._imports) + len(self._assigned)

    def evaluate(self, node: ast.expr) -> Any:
        """Evaluate an annotation.

        Raises:
            _HeavyNameError: It needs a module that is not light.
        """
        code = compile(ast.Expression(node), "<annotation>", "eval")
        return eval(code, {"__builtins__": {}}, self)

    def qualified(self, name: str) -> str:
        """Return the dotted path of a class that this module imports or defines."""
        module, original = self._imports.get(name, (self.module, name))
        return f"{module}.{original}"


def read_annotations(target: str) -> dict[str, Any]:
    """Read the annotations of our own function or constructor, without importing it.

    Args:
        target: Dotted path, as in `_target_`.

    Returns:
        Argument -> annotation, as far as `validated` or `config_dataclass` enforces it and light
        modules suffice; empty for targets of other libraries.
    """
    source = _find_definition(*target.rpartition(".")[::2])
    if source is None:
        return {}
    definition, names = source
    own = dict(_iter_arguments(definition))
    found: dict[str, Any] = {}
    if isinstance(definition, ast.ClassDef):
        for base in definition.bases:
            if isinstance(base, ast.Name):
                inherited = read_annotations(names.qualified(base.id))
                found |= {name: value for name, value in inherited.items() if name not in own}
    if not _has_decorator(definition, "validated", "config_dataclass"):
        return found
    return found | {
        argument: annotation
        for argument, node in own.items()
        if (annotation := _try_evaluate(names, node)) is not None
    }


def _has_decorator(definition: ast.ClassDef | ast.FunctionDef, *names: str) -> bool:
    return any(
        isinstance(mark, ast.Name) and mark.id in names for mark in definition.decorator_list
    )


def read_config_keys(target: str) -> list[str]:
    """Read the keys of a `config_dataclass`, without importing it; empty for anything else."""
    source = _find_definition(*target.rpartition(".")[::2])
    if source is None or not _has_decorator(source[0], "config_dataclass"):
        return []
    definition, names = source
    bases = [base.id for base in getattr(definition, "bases", ()) if isinstance(base, ast.Name)]
    inherited = [key for base in bases for key in read_config_keys(names.qualified(base))]
    return [*inherited, *(name for name, _ in _iter_arguments(definition))]


def _try_evaluate(names: _Names, node: ast.expr) -> Any:
    try:
        return names.evaluate(node)
    except _HeavyNameError:
        return None


def _constructor(definition: ast.ClassDef) -> ast.FunctionDef | None:
    """Return the `__init__` that a class defines itself; a dataclass has none."""
    own = (node for node in definition.body if isinstance(node, ast.FunctionDef))
    return next((node for node in own if node.name == "__init__"), None)


def _iter_arguments(definition: ast.ClassDef | ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(definition, ast.ClassDef):
        constructor = _constructor(definition)
        if constructor is None:  # a dataclass
            for node in definition.body:
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    yield node.target.id, node.annotation
            return
        definition = constructor
    for argument in (*definition.args.args, *definition.args.kwonlyargs):
        if argument.annotation is not None:
            yield argument.arg, argument.annotation


@lru_cache
@lru_cache
def _find_definition(
    module: str, name: str
) -> tuple[ast.ClassDef | ast.FunctionDef, _Names] | None:
    """Find a class or function in the source of this repository; None if it does not exist."""
    tree = _parse_module(module)
    if tree is None:
        return None
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node, _Names(module, tree)
        if isinstance(node, ast.ImportFrom) and node.level:  # a name that a package exports
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return _find_definition(f"{module}.{node.module}", alias.name)
    return None


@lru_cache
def _parse_module(module: str) -> ast.Module | None:
    """Parse a module of this repository, or the list of names that a package exports."""
    place = ROOT_FOLDER.joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.pyi"):
        if path.is_file():
            return ast.parse(path.read_text(encoding="utf-8"))
    return None


def _parse_user_module(module: str) -> ast.Module | None:
    """Parse a module of the user's own again at each call, because a notebook's user edits it."""
    for folder in allowed_modules().folders:
        path = Path(folder).joinpath(*module.split(".")).with_suffix(".py")
        if path.is_file():
            try:
                return ast.parse(path.read_text(encoding="utf-8"))
            except SyntaxError as error:
                raise UserError(
                    f"{path}, line {error.lineno}, cannot be read as Python: {error.msg}"
                ) from error
    return None


def _check_target(part: DictConfig, target: str) -> None:
    """Refuse a `_target_` that its module does not have, or that no configuration may name."""
    if not target:
        return
    check_target(str(part._get_full_key("_target_")), target)
    module, _, name = target.rpartition(".")
    tree = _parse_module(module) or _parse_user_module(module)
    if tree is None or any(
        isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in tree.body
    ):
        return
    names = {
        node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)
    } | set(_Names(module, tree))
    if name not in names:
        near = get_close_matches(name, names, n=1)
        raise ArgumentError(
            "",
            [part._get_full_key("_target_")],
            f"={target} does not exist" + (f"; did you mean {module}.{near[0]}?" if near else ""),
            "",
        )


def check_arguments(part: Any) -> None:
    """Check all arguments of our classes in a part of the configuration.

    Args:
        part: The configuration, or one of its groups.

    Raises:
        ArgumentError: A value is not allowed, or a `_target_` of ours is not there; the sentence
            names the key as the user writes it.
    """
    if OmegaConf.is_list(part):
        for item in part:
            check_arguments(item)
    if not OmegaConf.is_dict(part):
        return
    target = str(part.get("_target_", ""))
    _check_target(part, target)
    annotations, known, values = read_annotations(target), read_config_keys(target), {}
    for name in part:
        if OmegaConf.is_missing(part, name):
            continue
        try:
            value = part[name]
            check_arguments(value)
            if OmegaConf.is_config(value) and (name in annotations or known):
                value = OmegaConf.to_container(value, resolve=True)
        except OmegaConfBaseException:  # such as an interpolation that only a run can resolve
            continue
        values[str(name)] = value
        if name in annotations and not _makes_object(value):
            with _naming_user_keys(part):
                check_value(str(name), _without_objects(value), annotations[name])
    if known:
        with _naming_user_keys(part):
            _check_config(target, known, values, complete=len(values) == len(part))


# Key of a logger -> the package that it imports, and the extra of pyproject.toml that installs it.
LOGGER_PACKAGES = {"mlflow": ("mlflow", "mlflow"), "comet": ("comet_ml", "comet")}


def check_loggers(cfg: DictConfig) -> None:
    """Refuse a logger whose package is not installed.

    Args:
        cfg: The configuration of a run.

    Raises:
        UserError: The sentence has the command that installs it.
    """
    for name, (package, extra) in LOGGER_PACKAGES.items():
        if name in cfg.logger and importlib.util.find_spec(package) is None:
            raise UserError(
                f"logger={name} needs the package {package}, which is not installed; type: uv sync"
                f" --extra {extra} (without uv: pip install -e '.[{extra}]')"
            )


def check_curriculum(cfg: DictConfig) -> None:
    """Refuse stages that do not add up to the fit, before another run is made for it.

    Args:
        cfg: The configuration of a run, whose arguments are checked.

    Raises:
        UserError: It is refused; the message names the number of epochs to set.
    """
    curriculum = OmegaConf.select(cfg, "callbacks.curriculum")
    if curriculum is None or OmegaConf.is_missing(curriculum, "stages"):
        return
    from callbacks.curriculum_stage import check_total_epochs

    check_total_epochs([stage.epochs for stage in curriculum.stages], curriculum.epochs)


def _check_config(
    target: str, known: Sequence[str], values: Mapping[str, Any], complete: bool
) -> None:
    """Refuse unknown keys of a `config_dataclass`; construct it if values and module allow it.

    Args:
        target: Dotted path of the class.
        known: Keys of the class.
        values: Values of the configuration that could be resolved.
        complete: True if all could be resolved.
    """
    name = target.rpartition(".")[2]
    given = {key: value for key, value in values.items() if not key.startswith("_")}
    for key in given:
        if key not in known:
            raise ArgumentError(name, (key,), describe_unknown(key, "key", name, known))
    definition, names = _find_definition(*target.rpartition(".")[::2]) or (None, None)
    if definition is None or names is None or names.module not in LIGHT_MODULES:
        return
    if complete and not any(map(_makes_object, given.values())):
        getattr(importlib.import_module(names.module), definition.name)(**given)


@contextmanager
def _naming_user_keys(part: DictConfig) -> Iterator[None]:
    """Replace argument names in errors by the keys that the user writes."""
    try:
        yield
    except ArgumentError as error:
        raise error.with_key(user_key(part, part._get_full_key(None), error.key())) from error


def _makes_object(value: Any) -> bool:
    """Return True if a value becomes an object, because it has a `_target_`."""
    if isinstance(value, list):
        return any(map(_makes_object, value))
    return isinstance(value, Mapping) and (
        "_target_" in value or (bool(value) and all(map(_makes_object, value.values())))
    )


def _without_objects(value: Any) -> Any:
    """Return mappings without values that become objects, such as the scheduler of a stage."""
    if isinstance(value, list):
        return [_without_objects(item) for item in value]
    if isinstance(value, Mapping):
        return {
            key: _without_objects(item) for key, item in value.items() if not _makes_object(item)
        }
    return value
