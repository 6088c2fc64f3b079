"""File names of predictions and exports, from the ids of images."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256

MAX_NAME_LENGTH = 120  # letters of a file name
MAX_NAME_BYTES = 200  # file systems take 255, and a hash and a suffix follow


def safe_file_names(ids: Sequence[str]) -> list[str]:
    """Return one file name per row that contains only letters (of any script), digits and `._-`.

    Names that would be equal, ignoring case, get a hash of their id.
    """
    plain = [_safe_name(id) for id in ids]
    often = Counter(name.lower() for name in plain)
    return [
        name if often[name.lower()] == 1 else f"{name}-{sha256(id.encode()).hexdigest()[:12]}"
        for name, id in zip(plain, ids, strict=True)
    ]


def _safe_name(id: str) -> str:
    name = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", id))[:MAX_NAME_LENGTH]
    cut = name.encode("utf-8", "replace")[:MAX_NAME_BYTES].decode("utf-8", "ignore")
    return cut.lstrip(".") or "_"
