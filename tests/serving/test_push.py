"""A folder goes to the hub file by file; what the hub, a stand-in, refuses is told."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from biddable.errors import ExportError
from biddable.serving.push import push_folder, require_access

pytestmark = pytest.mark.filterwarnings("default")  # the hub's client warns of what it likes


class _Hub(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self._reply(404, {"error": "no such thing"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        server: Any = self.server
        server.seen.append((self.path, self.headers.get("authorization")))
        if server.status != 200:
            self._reply(server.status, {"error": "you may not"})
        elif self.path == "/api/repos/create":
            server.made.update(json.loads(body))
            self._reply(200, {"url": "http://127.0.0.1/me/model"})
        elif self.path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]
            self._reply(200, {"files": modes})
        elif self.path.endswith("/commit/main"):
            for line in body.splitlines():
                row = json.loads(line)
                if row["key"] == "file":
                    server.files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
            oid = "0" * 40
            url = f"http://127.0.0.1/me/model/commit/{oid}"
            self._reply(200, {"commitUrl": url, "commitOid": oid, "success": True})
        else:
            self._reply(200, {"errors": [], "warnings": []})

    def _reply(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.seen, server.made, server.files, server.status = [], {}, {}, 200
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "out"
    place.mkdir()
    (place / "README.md").write_text("---\nlicense: mit\n---\n# m\n")
    (place / "model.safetensors").write_bytes(b"\x00" * 99)
    return place


def test_all_files_arrive_in_a_private_repository(hub: Any, folder: Path) -> None:
    address = push_folder(folder, "me/model")
    assert address.startswith("http://127.0.0.1/me/model/commit/")
    assert hub.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert (hub.made["visibility"], hub.made["name"]) == ("private", "model")
    assert {token for _, token in hub.seen} == {"Bearer hf_of_the_test"}


def test_what_the_hub_refuses_is_told(hub: Any, folder: Path) -> None:
    hub.status = 403
    with pytest.raises(
        ExportError, match=r"--push me/model: the login here may not write .*is whole; later"
    ):
        push_folder(folder, "me/model")
    assert hub.files == {}


def test_a_hub_that_is_not_there_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(ExportError, match=r":9 cannot be reached \(.*hf upload me/model"):
        push_folder(folder, "me/model")


def test_access_is_asked_for_first(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExportError, match=r"--push me/model: the hub refuses it .*exported\.$"):
        require_access("me/model")  # the stand-in does not know the address
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ExportError, match=r":9 cannot be reached; .*Nothing was exported\.$"):
        require_access("me/model")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ExportError, match="nobody is logged in here: hf auth login, or set HF_TOK"):
        require_access("me/model")


@pytest.mark.parametrize("name", ["model", "a/b/c", "/model", "me/"])
def test_a_name_that_is_none(folder: Path, name: str) -> None:
    with pytest.raises(ExportError, match=f'--push: found "{name}"; expected owner/name'):
        push_folder(folder, name)
