"""One sentence for every error of a disk or folder. Imports nothing heavy."""

import errno
import re
from pathlib import Path

from datamodules.errors import UserError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_FREE = "free some, and start the same command again"
_OTHER_FOLDER = "name another folder, or ask its owner for access"
_PROBLEMS = {  # errno -> what is wrong with a place, and the fix
    errno.ENOSPC: ("no space is left on the disk of {}", _FREE),
    errno.EDQUOT: ("the quota of this user is used up on the disk of {}", _FREE),
    errno.EFBIG: (
        "{} would be larger than the file system or `ulimit -f` allows",
        "raise the limit, or name a folder on another disk",
    ),
    errno.EROFS: ("the disk of {} is mounted read-only", "name a folder on another disk"),
    errno.EACCES: ("this user may not read or write {}", _OTHER_FOLDER),
    errno.EPERM: ("this user may not change {}", _OTHER_FOLDER),
    errno.EEXIST: ("{} is in the way", "move it, or name another folder"),
    errno.ENOTDIR: ("{} has a file where a folder is expected", "move it, or name another folder"),
    errno.EISDIR: ("{} is a folder where a file is expected", "move it, or name another folder"),
    errno.ELOOP: ("{} is a link that leads back to itself", "name the folder that is meant"),
    errno.ENAMETOOLONG: ("the name {} is too long", "name a folder with a shorter path"),
    errno.EIO: (
        "the disk of {} does not answer (input/output error)",
        "check the disk, or name a folder on another one",
    ),
    errno.ESTALE: (
        "the network disk of {} was replaced meanwhile",
        "start the same command again",
    ),
    errno.EMFILE: (
        "{} cannot be opened, because this process has too many open files",
        "raise the limit with `ulimit -n 4096`",
    ),
    errno.ENFILE: (
        "{} cannot be opened, because the machine has too many open files",
        "end other programs, and start the same command again",
    ),
}
_IN_A_WORKER = re.compile(r"\[Errno (\d+)\] [^:'\"\n]*(?:: ['\"](.+?)['\"])?$", re.MULTILINE)


def file_error(
    error: BaseException, place: str | Path | None = None, fix: str | None = None
) -> UserError | None:
    """Return a UserError for an error of a disk or folder, else None.

    Args:
        error: The error; one of a loader process too, of which only the text is left.
        place: File or folder where the error does not tell it.
        fix: What to do; None for what is usual.
    """
    number, named = error_number(error)
    if number not in _PROBLEMS:
        return None
    problem, usual = _PROBLEMS[number]
    where = named or place or "a file of this run"
    return UserError(f"{problem.format(where)}; {fix or usual}")


def error_number(error: BaseException) -> tuple[int | None, str | None]:
    """Return the number and the file of an error of the system; None where it has none."""
    if not isinstance(error, OSError):
        return None, None
    if error.errno is not None:
        named = error.filename2 if error.filename2 is not None else error.filename
        return error.errno, None if named is None or isinstance(named, int) else str(named)
    found = _IN_A_WORKER.search(str(error))
    return (int(found[1]), found[2]) if found else (None, None)
