"""File names of predictions and exports, from the ids of images."""

import re
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256

MAX_NAME_LENGTH = 120  # letters of a file name; file systems take 255 bytes


def safe_file_names(ids: Sequence[str]) -> list[str]:
    """Return one file name per row that contains only letters, digits and `._-`.

    Names that would be equal, ignoring case, get a hash of their id.
    """
    plain = [
        re.sub(r"[^A-Za-z0-9._-]+", "_", id)[:MAX_NAME_LENGTH].lstrip(".") or "_" for id in ids
    ]
    often = Counter(name.lower() for name in plain)
    return [
        name if often[name.lower()] == 1 else f"{name}-{sha256(id.encode()).hexdigest()[:12]}"
        for name, id in zip(plain, ids, strict=True)
    ]
