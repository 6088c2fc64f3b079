"""Tests of errors of disks and folders: one sentence that names the place and a fix."""

import errno
import os

import pytest

from datamodules.errors import ManifestError, UserError
from datamodules.file_errors import file_error

NUMBERS = [
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EIO),
    *(errno.ESTALE, errno.EMFILE, errno.ENFILE),
]


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
def test_each_error_is_one_sentence_with_place_and_fix(number):
    said = str(file_error(OSError(number, os.strerror(number), "/disk/a.npy")))
    assert "/disk/a.npy" in said and "; " in said and "\n" not in said and "{" not in said
    assert "/run" in str(file_error(OSError(number, os.strerror(number)), "/run"))
    assert str(file_error(OSError(number, "x"), "/run", "do this")).endswith("; do this")


@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
def test_an_error_of_a_loader_process_of_which_only_the_text_is_left(number):
    text = f"[Errno {number}] {os.strerror(number)}: '/disk/a.npy'"
    lost = OSError(
        f"Caught OSError in DataLoader worker process 1.\nOriginal Traceback (most recent call"
        f' last):\n  File "a.py", line 1, in b\n    c\nOSError: {text}\n'
    )
    assert str(file_error(lost)) == str(file_error(OSError(number, "", "/disk/a.npy")))


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file", "a"), OSError("a"), ValueError("[Errno 28] a")]
)
def test_other_errors_stay_as_they_are(error):
    assert file_error(error) is None


@pytest.mark.parametrize("kind", [UserError, ManifestError])
def test_a_user_error_of_a_loader_process_is_its_sentence_alone(kind):
    text = (
        f"Caught {kind.__name__} in DataLoader worker process 0.\nOriginal Traceback (most recent"
        f' call last):\n  File "a.py", line 1, in b\n    raise\ndatamodules.errors.'
        f"{kind.__name__}: the file a is wrong; mend it\n"
    )
    assert str(kind(text)) == "the file a is wrong; mend it"
    assert str(kind("the file a is wrong")) == "the file a is wrong"
