"""Weights of the Hugging Face hub, from a server of our own that answers as it does."""

import hashlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXTRA = Path(sys.prefix) / "transformers"  # where `make test` installs huggingface_hub
sys.path.append(str(EXTRA))
pytest.importorskip("huggingface_hub", reason="`make test` installs huggingface_hub; Python >= 3.11")
CONTENT = b"weights" * 100
# In a process of its own, as huggingface_hub reads its settings once. It does not wait between its tries.
CODE = """
import json, sys, time
sys.path += sys.argv[1:3]
time.sleep = lambda seconds: None
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.pretrained import fetch_from_hub
for address in sys.argv[3:]:
    try:
        print(json.dumps(["read", fetch_from_hub(address).read_text()]))
    except InputError as error:
        print(json.dumps(["error", str(error)]))
"""


class Hub(BaseHTTPRequestHandler):
    """Repositories are named by what is wrong with them; "old" has a pickle alone."""

    def do_GET(self) -> None:
        _, owner, name, _, revision, file = self.path.split("/")
        fault = {"private": "RepoNotFound", "gated": "GatedRepo"}.get(name, "")
        if revision == "nowhere":
            fault = "RevisionNotFound"
        elif name == "empty" or (name == "old" and file == "model.safetensors"):
            fault = "EntryNotFound"
        content = b"" if fault else CONTENT
        self.send_response((403 if name == "gated" else 404) if fault else 200)
        if fault:
            self.send_header("X-Error-Code", fault)
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *args) -> None:
        """Be quiet."""


@pytest.fixture
def fetch(tmp_path):
    def run(*addresses: str) -> list[list[str]]:
        env = {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path),
            "no_proxy": "127.0.0.1",
            "HOME": str(tmp_path),
        }
        command = [sys.executable, "-c", CODE, str(ROOT), str(EXTRA), *addresses]
        done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT / "ops")
        lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
        assert len(lines) == len(addresses), done.stderr
        return [json.loads(line) for line in lines]

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        run.close = lambda: (server.shutdown(), server.server_close())
        yield run
        server.shutdown()


@pytest.mark.slow
def test_it_is_fetched_once_and_then_needs_no_network(fetch):
    good = [["read", CONTENT.decode()]]
    assert fetch("hf://me/new", "hf://me/new@v1", "hf://me/old") == good * 3
    fetch.close()
    *cached, (_, error) = fetch("hf://me/new@v1", "hf://me/old", "hf://me/other@v2")
    assert cached == good * 2
    assert "hf://me/other@v2: no connection" in error and "`hf download me/other --revision v2`" in error


def test_what_is_wrong_is_told_in_one_line(fetch):
    results = fetch(
        *("hf://me/private", "hf://me/gated", "hf://me/new@nowhere", "hf://me/empty", "hf://no name/at all")
    )
    wanted = (
        *("no such repository, or it is private", "accept its conditions", "no revision 'nowhere'"),
        *("has none of model.safetensors, pytorch_model.bin", "write hf://owner/name"),
    )
    for (kind, error), part in zip(results, wanted, strict=True):
        assert kind == "error" and part in error
