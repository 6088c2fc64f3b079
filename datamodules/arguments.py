"""Checks of constructor arguments against their annotations; an error says what is allowed.

`validated` enforces the annotations of a function or a constructor, `config_dataclass` those of a
nested mapping of the configuration, with pydantic in strict mode: `true` is not 1, `off` is not
false, infinity and NaN are no numbers. NumPy's floats and integers are accepted where a fraction is
allowed; NumPy's integers are refused where a whole number is expected, because the configuration
never holds them. An error names the configuration key if it is known.
"""

import inspect
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from functools import partial, wraps
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from annotated_types import Ge, Gt, Le, Lt
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    validate_call,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from datamodules.errors import UserError

Target = TypeVar("Target", bound=Callable[..., Any])
Config = TypeVar("Config")

VALIDATION_CONFIG = ConfigDict(arbitrary_types_allowed=True, strict=True, allow_inf_nan=False)
TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    list: "a list",
    dict: "a mapping",
}


class AllowedValues(str):
    """Description of the values that an annotation allows, for types that do not say enough.

    Example:
        Annotated[Sequence[float], AllowedValues("two numbers")]
    """

    __slots__ = ()


def _ascending(values: Sequence[float]) -> Sequence[float]:
    if values[0] > values[1]:
        raise ValueError("the first is larger than the second")
    return values


def _different(values: Sequence[float]) -> Sequence[float]:
    if values[0] == values[1]:
        raise ValueError("both are equal")
    return values


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("an even number")
    return value


def _refuse_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("true equals 1, which pydantic takes for the literal")
    return value


NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
ANY_VALUE = "any"  # every value of a mask that is not named, but 0
COLOR_PATTERN = re.compile(r"(?:#|rgb)?([0-9a-fA-F]{6})")  # rgb: as on the command line


def parse_mask_value(value: Any) -> int | str:
    """Convert a value of mask images as a user writes it: a number, or a color as `#ff0000`.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if value == ANY_VALUE:
        return ANY_VALUE
    if isinstance(value, str) and value.isdecimal() and len(value) != 6:
        return int(value)
    if isinstance(value, str) and (found := COLOR_PATTERN.fullmatch(value)):
        return f"#{found.group(1).lower()}"
    raise ValueError(f"{value!r} is neither a whole number nor a color")


PositiveInt = Annotated[int, Field(ge=1)]
VolumeAxis = Annotated[Literal["auto", 0, 1, 2], BeforeValidator(_refuse_bool)]
FilePath = Annotated[str, Field(min_length=1), AllowedValues("a path")] | Path
MaskValue = Annotated[
    int | str,
    AfterValidator(parse_mask_value),
    AllowedValues('a whole number, a color such as "#ff0000", or any'),
]
FractionRange = Annotated[
    Sequence[Fraction],
    Field(min_length=2, max_length=2),
    AfterValidator(_ascending),
    AllowedValues("two numbers from 0 to 1, the smaller one first"),
]
PositiveRange = Annotated[
    Sequence[PositiveFloat],
    Field(min_length=2, max_length=2),
    AfterValidator(_ascending),
    AllowedValues("two numbers above 0, the smaller one first"),
]
PositiveFractionRange = Annotated[
    Sequence[Annotated[float, Field(gt=0, le=1)]],
    Field(min_length=2, max_length=2),
    AfterValidator(_ascending),
    AllowedValues("two numbers above 0 and at most 1, the smaller one first"),
]
OddRange = Annotated[
    Sequence[Annotated[int, Field(ge=1), AfterValidator(_odd)]],
    Field(min_length=2, max_length=2),
    AfterValidator(_ascending),
    AllowedValues("two odd whole numbers above 0, the smaller one first"),
]
WindowRange = Annotated[
    Sequence[float],
    Field(min_length=2, max_length=2),
    AfterValidator(_ascending),
    AfterValidator(_different),
    AllowedValues("two numbers [low,high], the smaller one first"),
]
PixelCount = Annotated[
    int, Field(ge=1), BeforeValidator(_whole), AllowedValues("a whole number above 0")
]  # 2e8 is written for 200000000
Names = Annotated[Sequence[str], Field(min_length=1), AllowedValues("a list of names")]


class ArgumentError(UserError, ValueError):
    """An argument of a constructor that its annotation does not allow.

    It is a ValueError, so that pydantic takes it from a validator or a `__post_init__`, which need
    not know the configuration key of their value: `ArgumentError("", (), "=7 is no power of two")`.

    Args:
        owner: Name of the class or function.
        path: The argument, followed by the keys of mappings and the positions in lists below it, as
            far as they are known.
        problem: Rest of the sentence after the key, such as `=1.5 is not allowed; it must be a
            number from 0 to 1`.
        where: The path of `owner` in the configuration, if it is known; the message then names the
            whole key.
    """

    def __init__(
        self, owner: str, path: Sequence[str | int], problem: str, where: str | None = None
    ) -> None:
        self.owner, self.path, self.problem = owner, tuple(path), problem
        super().__init__(f"{f'{owner}: ' if where is None else ''}{self.key(where)}{problem}")

    def key(self, where: str | None = None) -> str:
        """Return the dotted key, such as `callbacks.curriculum.stages[0].lr`."""
        parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path]
        return f"{where or ''}{''.join(parts)}".removeprefix(".")

    def with_key(self, key: str) -> "ArgumentError":
        """Return the same error with a configuration key in place of the argument's name."""
        return ArgumentError(self.owner, (key,), self.problem, "")


def validated(target: Target) -> Target:
    """Enforce the annotations of a function, or of the constructor of a class.

    A subclass that passes `**base` on needs nothing more, because the constructor of its base class
    is checked when it is called.

    Args:
        target: A function, or a class with an `__init__` of its own. Settings that only hold values
            are a `config_dataclass` instead.

    Returns:
        The same class, or a function with the same signature; calls raise `ArgumentError` if an
        argument is not allowed.
    """
    if isinstance(target, type):
        target.__init__ = _enforce_annotations(target.__init__, target.__name__)  # type: ignore[misc]
        return target
    return _enforce_annotations(target, target.__name__)  # type: ignore[return-value]


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field, Field))
def config_dataclass(cls: type[Config]) -> type[Config]:
    """Make a frozen, keyword-only dataclass of a nested mapping of the configuration.

    The fields are the keys of the mapping; an unknown key is refused. A base class needs the
    decorator too. Rules that concern several keys belong in a `__post_init__`, which raises
    `ArgumentError` with the key in its path.

    Example:
        @config_dataclass
        class StageConfig:
            epochs: PositiveInt
            lr: PositiveFloat | None = None
    """
    made: Any = pydantic_dataclass(
        frozen=True, kw_only=True, config=ConfigDict(**VALIDATION_CONFIG, extra="forbid")
    )(cls)
    made.__init__ = _raise_argument_errors(made.__init__, made, made.__name__)
    return made


@dataclass(frozen=True)
class FromMapping:
    """Annotation that builds a `config_dataclass` from the mapping that a user writes.

    Example:
        def __init__(self, stages: Sequence[Annotated[StageConfig, FromMapping()]]) -> None: ...
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """Return pydantic's schema for the annotated class."""

        def build(value: Any) -> Any:
            """Return the value as a `source`; a mapping is converted."""
            if isinstance(value, source):
                return value
            if not isinstance(value, Mapping):
                raise ValueError("it is not a mapping")
            return source(**{str(key): item for key, item in value.items()})

        return core_schema.no_info_plain_validator_function(build)


def _type_adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=VALIDATION_CONFIG)
    except PydanticUserError:  # a `config_dataclass` has its own configuration
        return TypeAdapter(annotation)


def check_value(key: str, value: Any, annotation: Any) -> None:
    """Check a configuration value that none of our constructors takes, such as a Trainer key.

    Args:
        key: Its dotted key.
        value: The value that the user set.
        annotation: Annotation that says what is allowed.

    Raises:
        ArgumentError: The value is not allowed.
    """
    try:
        _type_adapter(annotation).validate_python(value)
    except ValidationError as error:
        first: Any = error.errors()[0]
        path, problem = _explain(first, value, annotation, first["loc"])
        raise ArgumentError("", [*key.split("."), *path], problem, "") from error


def check_partial(argument: str, call: Any) -> None:
    """Check the arguments that a `functools.partial` of one of our functions already holds.

    The partial itself is only called in the middle of a run.

    Args:
        argument: Name under which the partial was given, for the key in the message.
        call: A partial; anything else is ignored.

    Raises:
        ArgumentError: An argument is not allowed.
    """
    if not isinstance(call, partial) or not hasattr(call.func, "__wrapped__"):
        return
    function: Any = call.func
    hints = get_type_hints(function, include_extras=True)
    for name, value in call.keywords.items():
        if name not in hints:
            raise ArgumentError(
                function.__name__,
                (argument, name),
                f"={format_config_value(value)} is no argument of {function.__name__}",
            )
        try:
            check_value(f"{argument}.{name}", value, hints[name])
        except ArgumentError as error:
            raise ArgumentError(function.__name__, error.path, error.problem) from error


def _enforce_annotations(function: Callable[..., Any], owner: str) -> Callable[..., Any]:
    check = validate_call(config=VALIDATION_CONFIG)(function)
    return _raise_argument_errors(check, function, owner)


def _raise_argument_errors(
    check: Callable[..., Any], target: Callable[..., Any], owner: str
) -> Callable[..., Any]:
    """Wrap a call that pydantic checks so that it raises `ArgumentError`.

    Args:
        check: The call that pydantic checks.
        target: The function or dataclass that has the annotations.
        owner: Its name in the message.
    """

    @wraps(check)
    def checked_call(*args: Any, **kwargs: Any) -> Any:
        """Call `check`; raise an `ArgumentError` for its validation errors."""
        try:
            return check(*args, **kwargs)
        except ValidationError as error:
            if error.title.split(".")[-1] != target.__name__:
                raise  # it comes from another library that the function calls
            raise _to_argument_error(error, target, owner, args, kwargs) from None

    return checked_call


def _to_argument_error(
    error: ValidationError,
    target: Callable[..., Any],
    owner: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> ArgumentError:
    problems = error.errors()
    first: Any = next(
        (problem for problem in problems if "missing" not in problem["type"]), problems[0]
    )  # a wrong value says more than a missing one
    kind, location = first["type"], first["loc"]
    if not location:  # the error comes from a `__post_init__`
        path, problem = _explain(first, kwargs, Any, ())
        return ArgumentError(owner, path, problem)
    place = location[0]
    names = [name for name in inspect.signature(target).parameters if name != "self"]
    positional = names if isinstance(target, type) else list(inspect.signature(target).parameters)
    name = positional[place] if isinstance(place, int) and place < len(positional) else str(place)
    if kind.startswith("missing"):
        return ArgumentError(owner, (name,), " is missing; set it")
    if kind == "unexpected_positional_argument" and name in names:
        return ArgumentError(owner, (name,), f" must be given by its name: {name}=...")
    if kind in (
        "unexpected_keyword_argument",
        "unexpected_positional_argument",
        "multiple_argument_values",
    ):
        noun = "key" if isinstance(target, type) else "argument"
        return ArgumentError(owner, (name,), describe_unknown(name, noun, owner, names))
    hints = get_type_hints(target, include_extras=True)
    value = (
        kwargs[name]
        if name in kwargs
        else args[place]
        if isinstance(place, int)
        else first["input"]
    )
    path, problem = _explain(first, value, hints.get(name, Any), location[1:])
    return ArgumentError(owner, [name, *path], problem)


def describe_unknown(name: str, noun: str, owner: str, known: Sequence[str]) -> str:
    """Return the end of a message about an unknown key or argument, with the known ones."""
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the {noun}s are {', '.join(known)}"
    if noun == "key":  # the name of a class says nothing to those who write a configuration
        return f" is not a known key; {hint}"
    return f" is not {'an' if noun[0] in 'aeiou' else 'a'} {noun} of {owner}; {hint}"


def _explain(
    problem: Mapping[str, Any], value: Any, annotation: Any, location: Sequence[str | int]
) -> tuple[list[str | int], str]:
    """Describe what is wrong with a value.

    Args:
        problem: One of pydantic's errors.
        value: The argument.
        annotation: Annotation that the value should satisfy.
        location: Place within the argument at which pydantic found the problem.

    Returns:
        The keys below the argument, and the end of the message.
    """
    inner = problem.get("ctx", {}).get("error")
    if isinstance(inner, ArgumentError):
        return [*location, *inner.path], inner.problem
    path, value, annotation = _find_wrong_item(value, annotation, location)
    if location[len(path) + 1 :] == ("[key]",) and isinstance(value, Mapping):
        keys = describe_annotation(get_args(_find_mapping(annotation))[0])
        return [*path, str(location[-2])], f" is not one of its keys; the keys are {keys}"
    return [*path], _describe_problem(value, annotation)


def _find_wrong_item(
    value: Any, annotation: Any, location: Sequence[str | int]
) -> tuple[list[str], Any, Any]:
    """Follow pydantic's location of an error into mappings, whose keys a user writes.

    A wrong item of a list counts as a wrong list.

    Returns:
        The keys below the argument, the wrong value, and what it should be.
    """
    path: list[str] = []
    for number, key in enumerate(location):
        mapping = _find_mapping(annotation)
        of_key = location[number + 1 :] == ("[key]",)
        if mapping is None or of_key or not isinstance(value, Mapping) or key not in value:
            break
        path, value, annotation = [*path, str(key)], value[key], get_args(mapping)[1]
    return path, value, annotation


def _find_mapping(annotation: Any) -> Any:
    """Return the annotation of the mapping inside `Annotated` or `| None`, or None."""
    if get_origin(annotation) is Annotated:
        base, *about = get_args(annotation)
        described = any(isinstance(part, AllowedValues) for part in about)
        return None if described else _find_mapping(base)
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return _find_mapping(parts[0]) if len(parts) == 1 else None
    origin = get_origin(annotation)
    return annotation if isinstance(origin, type) and issubclass(origin, Mapping) else None


def _describe_problem(value: Any, annotation: Any) -> str:
    near = get_close_matches(str(value), _literal_choices(annotation), n=1, cutoff=0.6)
    return (
        f"={format_config_value(value)} is not allowed; it must be"
        f" {describe_annotation(annotation)}" + (f" (did you mean {near[0]}?)" if near else "")
    )


def _literal_choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [choice for choice in get_args(annotation) if isinstance(choice, str)]
    return [choice for part in get_args(annotation) for choice in _literal_choices(part)]


def describe_annotation(annotation: Any) -> str:
    """Describe what an annotation allows, such as `a number from 0 to 1, or null`."""
    if get_origin(annotation) is Annotated:
        base, *about = get_args(annotation)
        message = next((str(part) for part in about if isinstance(part, AllowedValues)), None)
        if is_dataclass(base) and any(isinstance(part, FromMapping) for part in about):
            message = message or f"a mapping of {', '.join(each.name for each in fields(base))}"
        return message or describe_annotation(base) + _describe_bounds(about)
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [
            describe_annotation(part) for part in get_args(annotation) if part is not type(None)
        ]
        parts = list(dict.fromkeys(parts)) + ["null"] * (type(None) in get_args(annotation))
        return ", or ".join(parts)
    if get_origin(annotation) is Literal:
        choices = [format_config_value(choice) for choice in get_args(annotation)]
        return f"{', '.join(choices[:-1])} or {choices[-1]}" if len(choices) > 1 else choices[0]
    origin = get_origin(annotation) or annotation
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return (
            f"a mapping of names to {_plural(get_args(annotation)[1])}"
            if len(get_args(annotation)) == 2
            else "a mapping"
        )
    if isinstance(origin, type) and issubclass(origin, Sequence) and origin is not str:
        return f"a list of {_plural(get_args(annotation)[0])}" if get_args(annotation) else "a list"
    if origin in TYPE_NAMES:
        return TYPE_NAMES[origin]
    if origin is Callable:
        return "something that can be called (a _target_ with _partial_: true)"
    return f"made by a _target_ ({getattr(origin, '__name__', origin)})"


def _plural(annotation: Any) -> str:
    return re.sub(
        r"^(?:an? )?(whole number|number|list|mapping)\b", r"\1s", describe_annotation(annotation)
    ).replace("text", "names")


def _describe_bounds(about: Sequence[Any]) -> str:
    """Describe the bounds among the metadata of an `Annotated`."""
    found = [
        part
        for each in about
        for part in (each.metadata if isinstance(each, FieldInfo) else [each])
    ]
    low = next((part for part in found if isinstance(part, Ge | Gt)), None)
    high = next((part for part in found if isinstance(part, Le | Lt)), None)
    if isinstance(low, Ge) and isinstance(high, Le):
        return f" from {low.ge:g} to {high.le:g}"
    message = (
        [f"above {low.gt:g}"]
        if isinstance(low, Gt)
        else [f"of {low.ge:g} or more"]
        if isinstance(low, Ge)
        else []
    )
    message += (
        [f"below {high.lt:g}"]
        if isinstance(high, Lt)
        else [f"of at most {high.le:g}"]
        if isinstance(high, Le)
        else []
    )
    return f" {' and '.join(message)}" if message else ""


def format_config_value(value: Any) -> str:
    """Format a value as a user writes it on the command line; long values are cut."""
    if value is None or isinstance(value, bool):
        message = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, Mapping):
        message = (
            "{"
            + ",".join(f"{key}:{format_config_value(item)}" for key, item in value.items())
            + "}"
        )
    elif isinstance(value, list | tuple):
        message = "[" + ",".join(map(format_config_value, value)) + "]"
    else:
        message = str(value)
    return message if len(message) <= 120 else f"{message[:117]}..."


def _check_sides(size: int | Sequence[int]) -> int | Sequence[int]:
    """Refuse a list that is not a height and a width, and a side below one pixel."""
    sides = [size] if isinstance(size, int) else list(size)
    if not isinstance(size, int) and len(sides) != 2:
        raise ValueError("an image size has one number, or two")
    if min(sides) < 1:
        raise ValueError("a side has at least one pixel")
    return size


ImageSizeArgument = Annotated[  # image size as a user writes it
    int | Sequence[int],
    BeforeValidator(
        lambda size: list(size) if isinstance(size, tuple) else size
    ),  # an ImageSize is a tuple with a constructor of its own
    AfterValidator(_check_sides),
    AllowedValues(
        "the side of a square in pixels, such as 512, or [height,width], such as [1024,512]"
    ),
]


def _check_halvings(size: int | Sequence[int]) -> int | Sequence[int]:
    """Refuse sides that the networks cannot halve five times, and more sides than two."""
    sides = [size] if isinstance(size, int) else list(size)
    if any(side % 32 or side <= 0 for side in sides):
        nearest = [max(32, round(side / 32) * 32) for side in sides]
        raise ArgumentError(
            "",
            (),
            f"={format_config_value(size)} is not a multiple of 32, which the networks need; try"
            f" {format_config_value(nearest[0] if isinstance(size, int) else nearest)}",
        )
    return size


NetworkInputSize = Annotated[ImageSizeArgument, AfterValidator(_check_halvings)]
