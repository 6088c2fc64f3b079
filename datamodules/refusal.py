"""The exception of every user mistake: one sentence that says what is wrong, where, and the mend."""


class Refusal(Exception):
    """User input that is refused before anything expensive starts; run.py prints its sentence and exits with its code."""

    exit_code = 2


class ManifestError(Refusal):
    """The table of a data set, or a file it names, cannot be used."""
