"""The exception of every user mistake: one sentence that says what is wrong, where, and the mend."""

LARGEST_IMAGE = 100_000_000  # pixels that are read at most; the largest scanned radiographs have about 25 million


class Refusal(Exception):
    """User input that is refused before anything expensive starts; run.py prints its sentence and exits with its code."""

    exit_code = 2


class ManifestError(Refusal):
    """The table of a data set, or a file it names, cannot be used."""


class ContentError(ManifestError):
    """A file or an annotation can be decoded, and its values cannot be used; the sentence names them."""
