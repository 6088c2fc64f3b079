"""Limits of Linux control groups, versions 1 and 2, set by a container or a batch system."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True)
class CgroupLimits:
    """Limits of a control group; None where it sets none.

    Attributes:
        cores: How many cores' worth of time it may use.
        memory: Bytes.
    """

    cores: float | None = None
    memory: int | None = None


def cgroup_limits(root: Path = CGROUPS, own: Path = OWN) -> CgroupLimits:
    """Return the smallest limits among the process's groups and all above them.

    A limit of any of them holds.

    Args:
        root: Where the groups are mounted.
        own: The file that names those of this process, one line a hierarchy:
            `number:controllers:path`.
    """
    if not own.is_file():
        return CgroupLimits()  # not Linux
    cores: list[float] = []
    memory: list[int] = []
    for line in own.read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(",") if controllers else [""]:
            for group in _parent_groups(root / name, path):
                cores += _cgroup_cores(group)
                memory += _cgroup_memory(group)
    return CgroupLimits(min(cores, default=None), min(memory, default=None))


def _parent_groups(mount: Path, path: str) -> Iterator[Path]:
    group = mount / path.lstrip("/")
    while (
        group != mount and mount in group.parents
    ):  # a container sees the path of its host, which is not there
        yield group
        group = group.parent
    yield mount


def _cgroup_cores(group: Path) -> list[float]:
    words = _read_words(group / "cpu.max") or _read_words(group / "cpu.cfs_quota_us") + _read_words(
        group / "cpu.cfs_period_us"
    )
    return [] if len(words) < 2 or words[0] in ("max", "-1") else [int(words[0]) / int(words[1])]


def _cgroup_memory(group: Path) -> list[int]:
    words = _read_words(group / "memory.max") + _read_words(group / "memory.limit_in_bytes")
    return [
        int(word) for word in words if word != "max" and int(word) < 2**62
    ]  # version 1 says none by a number near 2**63


def _read_words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except OSError:
        return []
