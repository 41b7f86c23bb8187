"""Which image each data worker is at, so that its death names the image."""

import mmap
import os
import re
import time

import torch

_SLOTS, _LENGTH = 4096, 1024
# Shared with the processes that are forked from this one; a page is taken when it is first written.
_notes = mmap.mmap(-1, _SLOTS * _LENGTH)

_REMEDIES = {  # by what the system calls the signal
    "Killed": "The system kills processes when memory runs out: use fewer workers "
    "(train_dataloader.num_workers) or smaller images.",
    "Bus error": "The shared memory, through which workers hand on their batches, is too small: enlarge "
    "/dev/shm (docker run --shm-size=8g) or use fewer workers (train_dataloader.num_workers).",
    "Segmentation fault": "A decoder can crash at a damaged image: open this one by itself, or leave it out.",
}
_OTHERWISE = "Run with train_dataloader.num_workers=0 to see where."
_SHARED_MEMORY = re.compile(
    r"unable to (open|allocate|mmap|resize|write to)[^\n]*(shared memory|/torch_|/dev/shm)[^\n]*"
)


def note_image(path: str) -> None:
    """Note in a data worker that it is going to load ``path``."""
    start = os.getpid() % _SLOTS * _LENGTH
    _notes[start : start + _LENGTH] = os.fsencode(path)[-_LENGTH:].ljust(_LENGTH, b"\0")


def explain_death(error: BaseException | None) -> str | None:
    """Say which image a data worker died at and what to do, if ``error`` is of such a death."""
    texts = [_dead_worker()] if isinstance(error, ConnectionError | EOFError) else []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    text = "\n".join(reversed(texts))  # the cause says how a process ended, what is raised from it only which
    if full := _SHARED_MEMORY.search(text):
        return f"data workers have no room for a batch ({full[0]}). {_REMEDIES['Bus error']}"
    if not (died := re.search(r"DataLoader worker \(pid(?:\(s\))? (\d+)[^)]*\) ([^.\n]*)", text)):
        return None
    pid, how = int(died[1]), died[2].replace("is killed by signal:", "was killed by signal")
    start = pid % _SLOTS * _LENGTH
    image = os.fsdecode(_notes[start : start + _LENGTH].rstrip(b"\0"))
    at = f" at image {image}" if image else ""
    return f"data worker {pid} {how}{at}. {_REMEDIES.get(how.rpartition('signal ')[2], _OTHERWISE)}"


def _dead_worker() -> str:
    """What torch says of a worker that has died: its connection breaks a moment before torch knows.

    torch's handler of signals may say so at any moment.
    """
    try:
        for _ in range(20):
            torch._C._error_if_any_worker_fails()
            time.sleep(0.05)
    except RuntimeError as error:
        return str(error)
    return ""
