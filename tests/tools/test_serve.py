"""The server from the command line: it starts, says where it is, and ends."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
CONFIG = REPO / "tests" / "tiny_ddetr.py"


def test_a_package_that_is_missing_is_named(one_line_error, monkeypatch, checkpoint):
    monkeypatch.setitem(sys.modules, "waitress", None)
    assert "pip install waitress" in one_line_error("serve", CONFIG, checkpoint)


class TestWithWaitress:
    @pytest.fixture(autouse=True)
    def _needed(self) -> None:
        pytest.importorskip("waitress", reason="waitress is not installed")

    def test_an_address_that_is_none_is_named(self, one_line_error, small_run, checkpoint):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            error = one_line_error("serve", CONFIG, checkpoint, "--port", port)
            assert f"--host 127.0.0.1 --port {port}: Address already in use" in error
        assert "--port 99999" in one_line_error("serve", CONFIG, checkpoint, "--port", 99999)
        assert "--host no.such.host.invalid" in one_line_error(
            "serve", CONFIG, checkpoint, "--host", "no.such.host.invalid"
        )

    def test_a_name_of_no_model_is_told(self, one_line_error):
        error = one_line_error("serve", "ddetr_r50_50e_two_stages", "--port", 0)
        assert "did you mean 'ddetr_r50_50e_two_stage'" in error

    @pytest.mark.slow
    def test_it_serves_until_ctrl_c(self, small_run, checkpoint, shapes_root):
        options = ["--port", "0", "--device", "cpu", "--score-thr", "0"]
        command = [sys.executable, REPO / "tools" / "serve.py", CONFIG, checkpoint, *options]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        # What a shell starts in the background ignores Ctrl-C, and so does all that it starts.
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with subprocess.Popen(command, **pipes, preexec_fn=heed) as process:
            line = next(line for line in process.stdout if "Ctrl-C" in line)
            assert line.startswith("tiny_ddetr, epoch_1.pth: http://127.0.0.1:")
            (address,) = re.findall(r"http://\S+/", line)
            with urllib.request.urlopen(address) as page:
                assert b"tiny_ddetr, epoch_1.pth" in page.read()
            picture = next((shapes_root / "val").glob("*.png")).read_bytes()
            with urllib.request.urlopen(f"{address}detect?name=a.png", picture) as found:
                assert found.read().count(b'"bbox"') == 10
            process.send_signal(signal.SIGINT)
            said, errors = process.communicate(timeout=30)
        assert process.returncode == 0 and said == "stopped\n"
        assert "Traceback" not in errors and "error" not in errors
