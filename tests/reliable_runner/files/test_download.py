"""Downloads from a server that breaks off, lies, redirects and is slow."""

import multiprocessing
import threading
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files import download as module
from projects.reliable_runner.files.download import cached_path, download

CONTENT = bytes(range(256)) * 4096
OTHER = CONTENT[::-1]
DIGEST = sha256(CONTENT).hexdigest()[:8]
TEXTS = dict(xml=b"\xef\xbb\xbf<?xml version='1.0'?><Error/>", json=b'{"error": "no"}', empty=b"")


class Server(BaseHTTPRequestHandler):
    """Its path says how it behaves; ``requests`` holds the first byte wanted by each request to ``paths``."""

    requests: list[int] = []
    paths: list[str] = []
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.requests.append(start)
        self.paths.append(self.path)
        kind = self.path.split("/")[1]
        if kind == "redirect":
            self.answer(302, b"", Location="/whole/a.pth")
        elif kind == "page":
            self.answer(200, b"\n<!DOCTYPE html><html>log in</html>")
        elif kind in TEXTS:
            self.answer(200, TEXTS[kind])
        elif kind == "other":
            self.answer(200, OTHER)
        elif kind == "missing":
            self.answer(404, b"no such file")
        elif kind == "busy" and len(self.requests) < 3:
            self.answer(503, b"later")
        elif kind == "anew":
            self.answer(200, CONTENT, cut=1000 if len(self.requests) == 1 else None)
        elif kind == "broken":
            self.answer(200, CONTENT, cut=1000)
        elif start >= len(CONTENT):
            self.answer(416, b"", **{"Content-Range": f"bytes */{len(CONTENT)}"})
        else:
            part = CONTENT[start:]
            self.answer(206 if start else 200, part, cut=300_000 if kind == "breaks" else None)

    def answer(self, status: int, content: bytes, cut: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:cut])
        self.close_connection = True

    def log_message(self, *args) -> None:
        """Be quiet."""


@pytest.fixture
def web(tmp_path, monkeypatch) -> str:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    Server.requests, Server.paths = [], []
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=partial(server.serve_forever, 0.01), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "kind, starts",
    [
        ("whole", [0]),
        ("redirect", [0, 0]),
        ("busy", [0, 0, 0]),
        ("anew", [0, 1000]),
        ("breaks", [0, 300_000, 600_000, 900_000]),
    ],
)
def test_arrives_once(web, kind, starts):
    for _ in range(2):
        assert download(f"{web}/{kind}/a.pth?token=1", DIGEST).read_bytes() == CONTENT
    assert Server.requests == starts


def test_an_address_as_a_browser_shows_it(web):
    path = download(f"{web}/whole/Löwe 1.pth?of=Zürich%20&x=/1")
    assert path.name.startswith("Löwe 1-") and path.read_bytes() == CONTENT
    assert Server.paths == ["/whole/L%C3%B6we%201.pth?of=Z%C3%BCrich%20&x=/1"]


@pytest.mark.parametrize("address", ["https://", "https://127.0.0.1", "https://127.0.0.1/models/?id=a/b"])
def test_an_address_that_names_no_file(web, address):
    with pytest.raises(InputError, match="names no file"):
        download(address)


@pytest.mark.parametrize(
    "length, starts",
    [(5000, [5000]), (len(CONTENT), [len(CONTENT)]), (len(CONTENT) + 1, [len(CONTENT) + 1, 0])],
)
def test_a_later_call_goes_on_with_the_part_that_is_there(web, length, starts):
    path = cached_path("a.pth", DIGEST)
    path.parent.mkdir(parents=True)
    path.with_name("a.pth.part").write_bytes((CONTENT + b"x")[:length])
    assert download(f"{web}/whole/a.pth", DIGEST).read_bytes() == CONTENT
    assert Server.requests == starts
    assert {file.name for file in path.parent.iterdir()} == {"a.pth", "a.pth.lock"}


def test_files_and_parts_of_one_name_from_two_addresses(web):
    """Else half of each could make a file, which loads if the models are alike."""
    with pytest.raises(InputError, match="the connection broke"):
        download(f"{web}/broken/a.pth")
    Server.requests = []
    addresses = [f"{web}/{path}" for path in ("whole/a.pth", "other/a.pth", "whole/a.pth?id=2")]
    paths = list(map(download, addresses))
    assert [path.read_bytes() for path in paths] == [CONTENT, OTHER, CONTENT] and len(set(paths)) == 3
    assert list(map(download, addresses)) == paths and Server.requests == [0, 0, 0]
    assert download(addresses[0], DIGEST).name == "a.pth"  # its digest tells it from all others


@pytest.mark.parametrize(
    "kind, digest, fault",
    [
        ("whole", "00000000", f"has the SHA-256 {DIGEST}.*, and not 00000000; it was removed"),
        ("page", None, r"is a web page.*; it was removed\. You may"),
        ("xml", None, "what came is .<.xml version.*, and not the file"),
        ("json", None, """what came is '{"error": "no"}', and not the file"""),
        ("empty", None, "what came is empty"),
        ("missing", None, r"failed \(HTTP Error 404.*put it at .*/a-.*\.pth"),
    ],
)
def test_what_is_wrong_is_not_kept(web, kind, digest, fault):
    with pytest.raises(InputError, match=fault):
        download(f"{web}/{kind}/a.pth", digest)
    assert [path.suffix for path in cached_path("a.pth").parent.iterdir()] == [".lock"]


def test_of_a_picture_no_word_about_weights(web, tmp_path):
    for kind, fault in ("missing", r"failed \(HTTP Error 404: Not Found\)$"), ("page", "it was removed$"):
        with pytest.raises(InputError, match=fault):
            download(f"{web}/{kind}/a.png", path=tmp_path / "a.png")


def test_without_a_network_the_file_that_is_there_serves(web):
    nobody = "http://127.0.0.1:9/a.pth"
    with pytest.raises(InputError, match=f"{nobody}: the download failed .*refused.*put it at"):
        download(nobody)
    cached_path(nobody).write_bytes(b"weights")
    assert download(nobody).read_bytes() == b"weights"


def test_a_full_disk_is_told_at_once(web, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_fetch_from", full)
    with pytest.raises(InputError, match="No space left"):
        download(f"{web}/whole/a.pth")


def test_of_two_processes_one_fetches(web):
    context = multiprocessing.get_context("fork")
    address = f"{web}/breaks/a.pth"
    processes = [context.Process(target=download, args=(address,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert cached_path(address).read_bytes() == CONTENT and len(Server.requests) == 4
