"""Check of parsed JSON by a schema of pydantic; what is wrong is named in one sentence."""

from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from datamodules.errors import ManifestError
from datamodules.formats.file_content import shorten

Parsed = TypeVar("Parsed")


def parse_by_schema(
    schema: TypeAdapter[Parsed], value: Any, where: str, fix: str = "export it again"
) -> Parsed:
    """Return a value as its schema has it.

    Args:
        schema: The schema.
        value: Parsed JSON.
        where: File, and the place in it, for the message.
        fix: End of the message.

    Raises:
        ManifestError: It does not fit; the message names the first place and what is there.
    """
    try:
        return schema.validate_python(value)
    except ValidationError as error:
        raise ManifestError(f"{where} {describe_misfit(error)}; {fix}") from error


def describe_misfit(error: ValidationError) -> str:
    """Return what does not fit a schema: `has images.3.height='x', which should be an integer`."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"] if not _is_branch(part))
    reason = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if first["type"] == "missing":
        return f"has no {place}"
    found = shorten(_excerpt(first["input"]), 60)
    named = f"has {place}={found}" if place else f"holds {found}"
    return f"{named}, which {shorten(reason)}"


def _is_branch(part: int | str) -> bool:
    """Return True for the name of a type among several, which is no place in the file."""
    return isinstance(part, str) and ("[" in part or part in ("int", "str", "float", "bool"))


def _excerpt(value: Any) -> str:
    """Return a short text of a value, without writing all of a large one."""
    if isinstance(value, list | tuple | dict) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value)} values"
    if isinstance(value, int) and abs(value) >= 10**20:
        return "an integer of more than 20 digits"
    try:
        return repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"
