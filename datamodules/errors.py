"""Exceptions for user errors; the message names the problem, its place and the fix."""

MAX_IMAGE_PIXELS = 100_000_000  # pixels; the largest scanned radiographs have about 25 million
MAX_FILE_BYTES = 2**28  # bytes of a file that is read whole; annotation files rarely have 50 MB


class UserError(Exception):
    """Error in user input, which is refused before anything expensive starts.

    run.py prints the message and exits with `exit_code`. The message of an error in a loader
    process is its sentence alone, without the traceback that PyTorch puts round it.
    """

    exit_code = 2

    def __str__(self) -> str:
        message = super().__str__()
        if not message.startswith(f"Caught {type(self).__name__} in DataLoader worker process"):
            return message
        return message.rpartition(f"{type(self).__name__}: ")[2].strip()


class UnreadableFilesError(UserError):
    """End of a prediction that left out files that cannot be read; all others are predicted."""

    exit_code = 3


class ManifestError(UserError):
    """Error in the table of a data set, or in a file that it names."""


class ContentError(ManifestError):
    """Error in the values of a file or an annotation; the message names them."""
