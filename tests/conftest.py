"""What several test files use."""

import gc
import json
import logging
import os
import runpy
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# Many tiny tensors: a second thread only waits. Processes that tests start inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

# mmdet.models cannot be imported before these where mmcv has no ops.
from projects.deformable_detr.registry import MODELS, SCOPE
from projects.reliable_runner.launcher import run_tool
from tools.dataset_converters.draw_shapes import draw_split

REPO = Path(__file__).resolve().parents[1]


def pytest_collection_finish() -> None:
    """Each data set calls ``gc.collect``, which takes longer than all the rest where torch is imported."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory) -> Path:
    """A drawn data set: 8 training and 4 held-out images of 64 px, three classes."""
    root = tmp_path_factory.mktemp("shapes")
    draw_split(root, "train", num_images=8, size=64, seed=0)
    draw_split(root, "val", num_images=4, size=64, seed=1)
    return root


CONFIG = REPO / "tests" / "tiny_ddetr.py"


@pytest.fixture
def quick_start(monkeypatch) -> None:
    """Without looking for compilers and laying out the config, which take longer than a small training."""
    monkeypatch.setattr("mmengine.runner.runner.collect_env", dict)
    monkeypatch.setattr("mmengine.config.config.FormatCode", lambda text, **_: (text, True))


@pytest.fixture
def small_run(shapes_root, quick_start, monkeypatch) -> None:
    """What tests/tiny_ddetr.py needs: the drawings, and one thread, since in several it is slower."""
    monkeypatch.setenv("SHAPES_ROOT", str(shapes_root))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture
def data(tmp_path, shapes_root, small_run, monkeypatch) -> Path:
    """The drawings that tests/tiny_ddetr.py reads, to spoil."""
    monkeypatch.setenv("SHAPES_ROOT", str(tmp_path / "data"))
    return Path(shutil.copytree(shapes_root, tmp_path / "data"))


@pytest.fixture
def heir(tmp_path) -> Callable[..., Path]:
    """Writes a config that inherits tests/tiny_ddetr.py, or another."""

    def write(text: str, name: str = "heir", base: Path = CONFIG) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(f"_base_ = {str(base)!r}\n{text}\n")
        return path

    return write


@pytest.fixture
def untrained(tmp_path) -> Callable[..., Path]:
    """Saves the weights of an untrained model; the scores of tests/tiny_ddetr.py are about 0.01."""

    def save(config: Path = CONFIG) -> Path:
        torch.manual_seed(0)
        model = MODELS.build(dict(Config.fromfile(config).model, _scope_=SCOPE))
        model.init_weights()
        torch.save({"state_dict": model.state_dict()}, tmp_path / "epoch_1.pth")
        return tmp_path / "epoch_1.pth"

    return save


@pytest.fixture
def checkpoint(untrained) -> Path:
    """Weights of tests/tiny_ddetr.py."""
    return untrained()


@cache
def main_of(name: str) -> Callable[[list[str]], None]:
    return runpy.run_path(str(REPO / "tools" / f"{name}.py"))["main"]


def command_line(args: tuple, options: dict) -> list[str]:
    words = [f"{key}={value}" for key, value in options.items()]
    return [*map(str, args), *(["--cfg-options", *words] if words else [])]


def forget_runs() -> None:
    """Close what mmengine keeps of a run by name, until the process ends."""
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.close()
    for manager in (MMLogger, MessageHub, Visualizer, *Visualizer.__subclasses__()):
        manager._instance_dict.clear()


@pytest.fixture
def tool(small_run) -> Callable[..., None]:
    """Runs a tool by its name, with options for its ``--cfg-options``, as if in a process of its own."""

    def run(name: str, *args: str | Path, **options) -> None:
        forget_runs()
        main_of(name)(command_line(args, options))

    return run


@pytest.fixture
def one_line_error(capsys, quick_start, monkeypatch) -> Callable[..., str]:
    """Runs a tool, by its name or its ``main``, with a user's mistake and returns the one line it prints."""
    # The logger of an earlier run in this process complains that pytest has closed its stream.
    monkeypatch.setattr(logging, "raiseExceptions", False)

    def run(main: str | Callable[[list[str]], None], *args: str | Path, **options) -> str:
        forget_runs()
        main = main_of(main) if isinstance(main, str) else main
        assert run_tool(partial(main, command_line(args, options))) == 1
        printed = capsys.readouterr().err
        assert "Traceback" not in printed
        (error,) = [line for line in printed.splitlines() if line.startswith("error: ")]
        return error

    return run


@pytest.fixture
def scalars() -> Callable[..., list[dict]]:
    """What the runs in a work_dir have logged in their scalars.json, in order; of those with a ``key``."""

    def read(work_dir: Path, key: str = "") -> list[dict]:
        files = sorted(work_dir.glob("*/vis_data/scalars.json"))
        lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return [line for line in lines if not key or key in line]

    return read


@pytest.fixture
def web(tmp_path, monkeypatch) -> Iterator[tuple[Path, str]]:
    """A folder and the address of a web server on its files, with an empty download folder."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "web").mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Be quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path / "web")) as httpd:
        threading.Thread(target=partial(httpd.serve_forever, 0.01), daemon=True).start()
        yield tmp_path / "web", f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture
def run_script(tmp_path) -> Callable[..., str]:
    """Runs a shell script in ``tmp_path``, without a GPU, and returns what it prints."""

    def run(script: Path, *args: str | Path) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "PORT": port, "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(["bash", script, *args], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """The machine's own Chromium, driven by playwright; without either a test is skipped.

    One for each module: while playwright drives, no other event loop runs in the process.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="`make test` installs playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("there is no Chromium: apt install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def open_file(browser) -> Iterator[Callable]:
    """Opens HTML files and, at the end, looks for errors and for requests beside the files themselves."""
    said, asked, opened, contexts = [], set(), set(), []

    def open_file(path: Path, **context):
        contexts.append(browser.new_context(**dict(viewport=dict(width=1200, height=900)) | context))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.add(request.url))
        opened.add(path.as_uri())
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} == opened


@pytest.fixture
def contrasts() -> Callable[..., tuple[list[float], float]]:
    """The contrast of the text of elements with the page, as WCAG 2.2 counts it, and the page's luminance."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in colour[4:-1].split(", ")]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def measure(page, *selectors: str) -> tuple[list[float], float]:
        colours = page.evaluate(
            """names => names.map(name => getComputedStyle(document.querySelector(name)).color)
                .concat(getComputedStyle(document.body).backgroundColor)""",
            selectors,
        )
        *texts, paper = map(luminance, colours)
        return [(max(text, paper) + 0.05) / (min(text, paper) + 0.05) for text in texts], paper

    return measure
