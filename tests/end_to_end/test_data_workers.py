"""A data worker that dies is told with its image."""

import os
import signal
import time

import pytest
import torch
from torch.utils.data import DataLoader

from projects.reliable_runner.data.workers import explain_death, note_image


@pytest.mark.parametrize(
    ("kill", "how", "remedy"),
    [
        ("SIGKILL", "was killed by signal Killed", "fewer workers (train_dataloader.num_workers)"),
        ("SIGSEGV", "was killed by signal Segmentation fault", "open this one by itself"),
        ("SIGBUS", "was killed by signal Bus error", "docker run --shm-size"),
        ("exit", "exited unexpectedly with exit code 3", "num_workers=0"),
    ],
)
@pytest.mark.usefixtures("small_run")
def test_the_image_is_named(tmp_path, shapes_root, spoil, one_line_error, kill, how, remedy):
    workers = {"train_dataloader.num_workers": 2}
    error = one_line_error("train", spoil(kill), "--work-dir", tmp_path, **workers)
    assert f"{how} at image {shapes_root}/train/000003.png." in error
    assert remedy in error


def test_full_shared_memory_is_explained():
    error = RuntimeError(
        "Caught RuntimeError in DataLoader worker process 0.\nTraceback\nRuntimeError: unable to allocate "
        "shared memory(shm) for file </torch_12_34>: No space left on device (28)"
    )
    assert "/dev/shm (docker run --shm-size" in explain_death(error)
    assert explain_death(RuntimeError("b")) is None


class Deadly(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        note_image("4.png")
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGSEGV)


def test_a_broken_connection_is_a_dead_worker():
    """The connection may break before torch knows of the death."""
    batches = iter(DataLoader(Deadly(), num_workers=1))
    said = explain_death(ConnectionResetError(104, "reset"))
    assert "was killed by signal Segmentation fault at image 4.png" in said
    del batches
