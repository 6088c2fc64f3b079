"""Exceptions for user mistakes: the message says what is wrong, where, and how to fix it."""

MAX_IMAGE_PIXELS = 100_000_000  # pixels; the largest scanned radiographs have about 25 million


class UserError(Exception):
    """User input that is refused before anything expensive starts.

    run.py prints the message and exits with `exit_code`.
    """

    exit_code = 2


class ManifestError(UserError):
    """The table of a data set, or a file it names, cannot be used."""


class ContentError(ManifestError):
    """A file or an annotation has values that cannot be used; the message names them."""
