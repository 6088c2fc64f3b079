"""Sentence for an error that nothing else explains, a bug; its traceback is kept in a file.

This module imports nothing heavy.
"""

import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

LOG_FILE = "run.log"
EXIT_CODE = os.EX_SOFTWARE if hasattr(os, "EX_SOFTWARE") else 70
TRACEBACK_VARIABLE = "MEDICAL_TRACEBACK"  # set it to 1 to see the traceback in the terminal too
MAX_MESSAGE = 500  # characters of the error's own message


def report_bug(error: BaseException) -> str:
    """Write the traceback of an error into a file; return the sentence that names it.

    The file is run.log of the run folder if there is one, and otherwise a new file in the folder of
    temporary files.
    """
    text = "".join(traceback.format_exception(error))
    message = " ".join(str(error).split())
    if len(message) > MAX_MESSAGE:
        message = f"{message[:MAX_MESSAGE]}..."
    if shows_traceback():
        print(text, file=sys.stderr)
    place = _write_traceback(text)
    named = f"please report it with {place}" if place else f"please report it\n{text}"
    return f"this is a bug: {type(error).__name__}: {message}; {named}"


def shows_traceback() -> bool:
    """Return True if a `debug` mode or the environment asks for tracebacks in the terminal."""
    debug = any(word.startswith("debug=") and word != "debug=null" for word in sys.argv[1:])
    return debug or os.environ.get(TRACEBACK_VARIABLE, "") not in ("", "0")


def _write_traceback(text: str) -> Path | None:
    """Append a traceback to run.log, or write a new file; None if neither can be written."""
    stamped = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(sys.argv)}\n{text}\n"
    folder = run_folder()
    try:
        if folder is not None:
            with (folder / LOG_FILE).open("a", encoding="utf-8", errors="replace") as file:
                file.write(stamped)
            return folder / LOG_FILE
    except OSError:  # such as a full disk; another one may have space
        pass
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            prefix="medical-lightning-",
            suffix=".log",
            delete=False,
            encoding="utf-8",
            errors="replace",
        ) as made:
            made.write(stamped)
        return Path(made.name)
    except OSError:
        return None


def run_folder() -> Path | None:
    """Return the run folder of this process, if it exists."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf.errors import OmegaConfBaseException

    if not HydraConfig.initialized():
        return None
    try:
        folder = Path(HydraConfig.get().runtime.output_dir)
    except OmegaConfBaseException:
        return None
    return folder if folder.is_dir() else None
