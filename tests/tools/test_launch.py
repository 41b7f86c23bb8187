"""The launch scripts: which Python they take, and what the Slurm ones ask srun for, as MMDetection's do."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def srun(tmp_path):
    """Runs a script with an ``srun`` that prints its arguments, one a line."""
    (tmp_path / "srun").write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    (tmp_path / "srun").chmod(0o755)

    def run(script: str, *args: str, **env: str) -> list[str]:
        env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **env}
        return subprocess.check_output(["sh", TOOLS / script, *args], env=env, text=True).splitlines()

    return run


@pytest.mark.parametrize(
    ("script", "tool"),
    [
        ("slurm_train.sh", ["train.py", "config.py", "--work-dir", "dir or file"]),
        ("slurm_test.sh", ["test.py", "config.py", "dir or file"]),
    ],
)
def test_asks_for_one_process_a_gpu(srun, script, tool):
    args = ["night", "ddetr", "config.py", "dir or file", "--cfg-options", "a='[1, 2]'"]
    env = dict(GPUS="16", GPUS_PER_NODE="4", CPUS_PER_TASK="3")
    env |= dict(PYTHON="my python", SRUN_ARGS="--quotatype=spot -x n1")
    assert srun(script, *args, **env) == [
        *("--partition=night", "--job-name=ddetr", "--gres=gpu:4", "--ntasks=16"),
        *("--ntasks-per-node=4", "--cpus-per-task=3", "--kill-on-bad-exit=1"),
        *("--quotatype=spot", "-x", "n1", "my python", "-u", f"{TOOLS}/{tool[0]}", *tool[1:]),
        *("--launcher", "slurm", "--cfg-options", "a='[1, 2]'"),
    ]


@pytest.mark.parametrize(("gpus", "a_node"), [({}, 8), ({"GPUS": "2"}, 2), ({"GPUS": "32"}, 8)], ids=str)
def test_takes_at_most_eight_gpus_of_a_node(srun, gpus, a_node):
    asked = srun("slurm_train.sh", "p", "j", "c", "w", **gpus)
    assert f"--gres=gpu:{a_node}" in asked
    assert f"--ntasks={gpus.get('GPUS', 8)}" in asked
    assert f"--ntasks-per-node={a_node}" in asked


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, ".venv"),
        (dict(VIRTUAL_ENV="/elsewhere"), "python on PATH"),
        (dict(CONDA_PREFIX="/elsewhere", CONDA_DEFAULT_ENV="mine"), "python on PATH"),
        (dict(CONDA_PREFIX="/elsewhere", CONDA_DEFAULT_ENV="base"), ".venv"),
        (dict(VIRTUAL_ENV="/elsewhere", CONDA_DEFAULT_ENV="base"), "python on PATH"),
        (dict(PYTHON="{venv}", VIRTUAL_ENV="/elsewhere"), ".venv"),
    ],
)
@pytest.mark.parametrize("script", ["dist_train.sh", "dist_test.sh"])
def test_takes_the_active_environment_or_venv(tmp_path, script, env, expected):
    folder = tmp_path / "a b"
    shutil.copytree(TOOLS, folder / "tools")
    for path, name in (folder / ".venv/bin/python", ".venv"), (tmp_path / "bin/python", "python on PATH"):
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/usr/bin/env bash\necho '{name}' \"$@\"\n")
        path.chmod(0o755)
    ours = ("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV")
    clean = {key: value for key, value in os.environ.items() if key not in ours}
    env = {key: value.format(venv=folder / ".venv/bin/python") for key, value in env.items()}
    clean["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    command = ["sh", folder / "tools" / script, "my config.py", "2", "3"]
    done = subprocess.run(command, env=clean | env, capture_output=True, text=True)
    assert done.stdout.startswith(f"{expected} -m torch.distributed.run"), done.stderr
    assert " my config.py " in done.stdout


@pytest.mark.parametrize("number", ["--amp", "0", "two", "-1"])
@pytest.mark.parametrize("args", [("dist_train.sh", "c.py"), ("dist_test.sh", "c.py", "c.pth")], ids=str)
def test_refuses_what_is_no_number_of_processes(args, number):
    script, *others = args
    done = subprocess.run(["sh", TOOLS / script, *others, number], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.endswith(f"the number of processes is {number}, which is no positive integer\n")
