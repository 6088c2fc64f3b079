"""A real Orthanc on this machine for one test: temporary storage, no access from elsewhere."""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.factories.optional import find_program

TITLE = "TESTPACS"
START_S = 60  # seconds that a loaded machine may need


@dataclass(frozen=True)
class Orthanc:
    """Ports of a running Orthanc, both of 127.0.0.1."""

    http: int
    dicom: int

    def get(self, path: str) -> Any:
        """Return what its REST interface answers; bytes of a file, else parsed JSON."""
        content, kind = self._ask(path)
        return json.loads(content) if "json" in kind else content

    def post(self, path: str, data: Any) -> Any:
        """Send bytes, or an object as JSON, and return the parsed answer."""
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        return json.loads(self._ask(path, body)[0])

    def _ask(self, path: str, body: bytes | None = None) -> tuple[bytes, str]:
        # a proxy of the environment must not see 127.0.0.1
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.http}{path}", body, timeout=30) as answer:
            return answer.read(), answer.headers.get_content_type()


@contextmanager
def running_orthanc(folder: Path) -> Iterator[Orthanc]:
    """Start Orthanc with its storage in a folder, and stop it at the end.

    A test is skipped where Orthanc is not installed.
    """
    program = find_program("Orthanc", "orthanc")
    http, dicom = _free_ports(2)
    folder.mkdir()
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpPort": http,
        "DicomPort": dicom,
        "DicomAet": TITLE,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [program, folder / "orthanc.json"], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            orthanc = Orthanc(http, dicom)
            _wait(orthanc, process, folder / "log.txt")
            yield orthanc
        finally:
            process.terminate()
            process.wait(START_S)


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def _wait(orthanc: Orthanc, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            orthanc.get("/system")
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"Orthanc did not start:\n{log.read_text(errors='replace')[-2000:]}")
