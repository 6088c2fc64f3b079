"""Check of the command line's overrides before Hydra reads them.

This module imports nothing heavy.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from datamodules.errors import UserError
from reporting.commands import is_typed, quote_override

# Hydra's own options whose value is the next argument
OPTIONS_WITH_VALUE = (
    *("-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name"),
    *("-cd", "--config-dir", "-i", "--info", "--experimental-rerun"),
)
PLAIN_OVERRIDE = re.compile(r"(?:[+~]|\+\+)?[\w./@:-]+=[\w./:+-]*", re.ASCII)
KEY = re.compile(r"\s*(?:[+~]|\+\+)?[\w./@:-]+")
TYPOGRAPHIC_QUOTES = str.maketrans("“”„‟«»‘’‚‛", '""""""\'\'\'\'')
# a color that is a key of a mapping, which Hydra's grammar accepts only as a word
COLOR_KEY = re.compile(r"""["']?#([0-9a-fA-F]{6})["']?(?=\s*:)""")
PATH_KEY = re.compile(
    r"(?:^|\.)(?:root|\w*dir|\w*path|folder|init_from|cls_prob|data|runs"
    r"|(?:paths|net|encoder|segmenter)\.weights)$"
)


# Hydra makes these folders before any check, and would call one None or ['a']
FOLDER_KEYS = ("paths.runs", "paths.run", "hydra.run.dir", "hydra.sweep.dir")
NO_FOLDER = re.compile(r"|null|true|false|\[.*\]|\{.*\}", re.IGNORECASE)


def prepare_overrides(words: Sequence[str]) -> list[str]:
    """Return the arguments of the command line in the form that Hydra accepts.

    A value that is the path of an existing file or folder is quoted for any characters:
    `datamodule.root=archive (1)`.

    Args:
        words: Arguments from the shell, including options of Hydra.

    Raises:
        UserError: An argument is not an override; the message shows the correct form.
    """
    found, is_value = [], False
    for word in words:
        option = word.startswith("-") and not is_value
        found.append(word if is_value or _is_option(word) else _prepare_override(word))
        is_value = option and word in OPTIONS_WITH_VALUE
    return [*found, *_experiment_of_data(found)]


def _experiment_of_data(words: Sequence[str]) -> list[str]:
    """Return the experiment for `do=inspect datamodule.root=DIR`, which names none.

    It is the one that the folder fits: segmentation, or classification. The default experiment
    would write phantoms.
    """
    steps = {"do=inspect", "do=[inspect]", "do=init", "do=[init]"}
    chosen = [word for word in words if re.match(r"(experiment|datamodule|scale)=", word)]
    root = next((word for word in words if word.startswith("datamodule.root=")), None)
    if chosen or root is None or not steps & set(words):
        return []
    folder = Path(root.partition("=")[2].strip("'\"")).expanduser()
    from datamodules.formats.layout import FolderTree, LayoutOptions
    from datamodules.formats.registry import matching_layouts

    tree = FolderTree(folder)
    fits_masks = matching_layouts(tree, "masks", LayoutOptions())
    fits_labels = matching_layouts(tree, "labels", LayoutOptions())
    return [f"experiment={'classification' if fits_labels and not fits_masks else 'segmentation'}"]


def _is_option(word: str) -> bool:
    """Return True if an argument is an option of Hydra; refuse overrides with leading dashes."""
    if not word.startswith("-"):
        return False
    name, equals, _ = word.partition("=")
    if equals and name not in OPTIONS_WITH_VALUE:
        raise UserError(
            f"{word} is not an option; write an override without dashes: {word.lstrip('-')}"
        )
    return True


def _prepare_override(word: str) -> str:
    if word.lstrip("+").startswith("datamodule.mask_values="):
        word = COLOR_KEY.sub(r"rgb\1", word)
    if "=" in word and not PLAIN_OVERRIDE.fullmatch(word):
        _check_spelling(word)
    key, equals, value = word.partition("=")
    if key.lstrip("+") in FOLDER_KEYS and NO_FOLDER.fullmatch(value) and not _is_path(key, value):
        raise UserError(f"{word} is not allowed; it must be the path of a folder")
    if not equals:
        if word.startswith("~"):
            return word  # removes a key
        raise UserError(f"{word} is no override; write KEY=VALUE, such as seed=1")
    if PLAIN_OVERRIDE.fullmatch(word) and not (PATH_KEY.search(key) and _is_misread(value)):
        return word
    if _is_path(key, value):
        return quote_override(key, Path(value))
    problem = _grammar_problem(word)
    if problem is not None and PATH_KEY.search(key) and value:
        return quote_override(key, Path(value))  # a missing path, which is reported later
    if problem is not None:
        raise problem
    return word


def _check_spelling(word: str) -> None:
    """Refuse characters that editors, chats and Windows add to pasted text."""
    right = word.strip().translate(TYPOGRAPHIC_QUOTES)
    if right.endswith('"') and right.startswith('"'):
        right = right.strip('"')
    key, _, value = right.partition("=")
    right = f"{key.strip()}={value.strip()}"
    if "\r" in word:
        raise UserError(
            f"{word.strip()} ends with a carriage return, as in a script with the line ends of"
            f" Windows; convert the script (dos2unix), or type {right}"
        )
    if right == word or Path(word.partition("=")[2]).expanduser().exists():
        return
    problem = "has typographic quotes" if _has_typographic_quotes(word) else "has blanks around ="
    raise UserError(f"{word.strip()} {problem}; write {right}")


def _has_typographic_quotes(word: str) -> bool:
    return word.translate(TYPOGRAPHIC_QUOTES) != word


def _is_misread(value: str) -> bool:
    """Return True if Hydra would read a path as a number, such as a folder named 1e5."""
    return is_typed(value) and value != "null"


def _is_path(key: str, value: str) -> bool:
    """Return True if a value is a path: its key is for paths, and it exists or is a number."""
    if PATH_KEY.search(key) and _is_misread(value):
        return True
    if not ("/" in value or PATH_KEY.search(key)) or value[:1] in ("'", '"'):
        return False
    try:
        return Path(value).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a null character, no such user
        return False


def _grammar_problem(word: str) -> UserError | None:
    """Return the error for an override that Hydra's grammar cannot read, with the quoted form."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(word)
    except HydraException as error:
        key, _, value = word.partition("=")
        if "NoneType" in str(error.__cause__):  # Hydra's functions accept no null, its lists do
            return UserError(
                f"{word} cannot be read: Hydra's functions, such as choice(), accept no null; write"
                f" only the values, {key}=null,..."
            )
        if not KEY.fullmatch(key):
            return UserError(f"{word} is no override; write KEY=VALUE, such as seed=1")
        return UserError(
            f"{word} cannot be read: {value} has characters with a meaning in Hydra's grammar; as"
            f" plain text it is written '{quote_override(key, Path(value))}', with both kinds of"
            " quotes"
        )
    return None
