"""A local server that plays the Hugging Face hub: repositories with files, also broken ones."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """State of the server.

    Attributes:
        repositories: Repository -> file -> content.
        license: License that every model card states.
        cut_after: Bytes of a file after which the connection breaks; None for never. Files shorter
            than that are whole.
        down_after_cut: True to answer no download after a cut, as a server that went down.
        is_down: True to answer no download.
        wrong_hashes: True to state another SHA-256 than that of the content.
        ranges: Values of the header Range of all downloads.
        url: Address.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.license = "apache-2.0"
        self.cut_after: int | None = None
        self.down_after_cut = False
        self.is_down = False
        self.wrong_hashes = False
        self.ranges: list[str | None] = []
        self.url = ""

    def sha256(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        return digest[::-1] if self.wrong_hashes else digest


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0].strip("/")
        if path.startswith("api/models/"):
            repo = "/".join(path.split("/")[2:4])
            return self._send_api(repo, path)
        repo, _, rest = path.partition("/resolve/")
        name = rest.partition("/")[2]
        content = self.hub.repositories.get(repo, {}).get(name)
        if content is None:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        return self._send_file(content, body)

    def _send_api(self, repo: str, path: str) -> None:
        files = self.hub.repositories.get(repo)
        if files is None:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if "/tree/" in path:
            tree = [self._describe(name, files[name], "path", "oid") for name in files]
            return self._send(200, json.dumps(tree).encode())
        about = {
            "_id": "1",
            "id": repo,
            "sha": COMMIT,
            "cardData": {"license": self.hub.license},
            "siblings": [
                self._describe(name, files[name], "rfilename", "sha256") for name in files
            ],
        }
        return self._send(200, json.dumps(about).encode())

    def _describe(self, name: str, content: bytes, key: str, hash_key: str) -> dict:
        found = {key: name, "type": "file", "size": len(content), "blobId": "b", "oid": "b"}
        if name.endswith(".safetensors"):
            lfs = {hash_key: self.hub.sha256(content), "size": len(content), "pointerSize": 130}
            found["lfs"] = lfs
        return found

    def _send_file(self, content: bytes, body: bool) -> None:
        if self.hub.is_down and body:
            self.close_connection = True
            return
        asked = self.headers.get("Range")
        first = 0
        if body:
            self.hub.ranges.append(asked)
        if asked and asked.startswith("bytes="):
            first = int(asked.removeprefix("bytes=").partition("-")[0])
        headers = {
            "ETag": f'"{self.hub.sha256(content)}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        part = content[first:]
        self.send_response(206 if first else 200)
        for name, value in (headers | {"Content-Length": str(len(part))}).items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return
        cut = self.hub.cut_after
        self.wfile.write(part if cut is None or len(part) <= cut else part[:cut])
        if cut is not None and len(part) > cut:
            self.wfile.flush()
            self.hub.is_down = self.hub.down_after_cut
            self.close_connection = True
            self.connection.close()

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        all_headers = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        for name, value in (all_headers | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Run the server on a free port of this machine."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
