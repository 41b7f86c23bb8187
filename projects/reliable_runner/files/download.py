"""A file from the network, fetched once: resumed after a break, checked, complete or not there."""

import errno
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

import torch
from filelock import FileLock

from ..errors import InputError, first_line
from ..progress import progress

_TRIES = 4  # in a row that bring nothing
_TIMEOUT = 60  # seconds in which nothing comes
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def cached_path(url: str) -> Path:
    """Where the file of an address lies once it is fetched: in torch.hub's folder, under its own name.

    If a file of this name is there from another address, the name gets the first digits of the address's
    SHA-256.
    """
    path = Path(torch.hub.get_dir(), "checkpoints", _bare(url).rpartition("/")[2])
    note = _note(path)
    if path.exists() and note.exists() and note.read_text() != _bare(url):
        path = path.with_stem(f"{path.stem}-{hashlib.sha256(_bare(url).encode()).hexdigest()[:8]}")
    return path


def _bare(url: str) -> str:
    return url.partition("?")[0]  # what follows may be a secret


def _note(path: Path) -> Path:
    """The file that says where another one is from."""
    return path.with_name(path.name + ".url")


def download(url: str, digest: str | None = None, path: Path | None = None) -> Path:
    """Fetch a file, unless it is there.

    A bar shows the progress. After a break it goes on where it was, in a later call too. Of several
    processes one fetches, and the others wait for it.

    Args:
        url: an ``http://`` or ``https://`` address.
        digest: the first digits of the file's SHA-256, in hexadecimal.
        path: where it is to lie; by default `cached_path`.

    Returns:
        The file.

    Raises:
        InputError: there is no connection or no such file, no space, or what came is a web page or has
            another digest. A wrong file is removed; the message says where to put one fetched by other means.
    """
    path = path or cached_path(url)
    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            if not path.exists():
                _fetch(url, part)
                _check(url, part, digest)
                _note(path).write_text(_bare(url))
                os.replace(part, path)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"{url}: the download failed ({first_line(error)}). Try again, what has come is kept; or "
            f"download it by other means and put it at {path}; or do without it: for a backbone's weights "
            "set model.backbone.init_cfg=None"
        ) from error
    return path


def _fetch(url: str, part: Path) -> None:
    """Append to ``part`` until all is there; a break after which something has come does not count."""
    tries = 0
    while True:
        before = _size(part)
        try:
            if _fetch_from(url, part, before):
                return
            problem = OSError("the connection broke")
        except (OSError, http.client.HTTPException) as error:
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429
            if refused or getattr(error, "errno", None) in _OF_THE_DISK:
                raise
            problem = error
        tries = 0 if _size(part) > before else tries + 1
        if tries == _TRIES:
            raise problem
        time.sleep(tries)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _fetch_from(url: str, part: Path, start: int) -> bool:
    """Fetch the bytes from ``start`` on; whether that is all of them."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing follows: it is complete, or another file than before
            raise
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        if total == str(start):
            return True
        part.unlink()
        return False
    with answer:
        if answer.status != 206:  # a server that sends all anew
            start = 0
        left = answer.headers.get("Content-Length")
        total = start + int(left) if left else None
        with (
            part.open("ab" if start else "wb") as file,
            progress(total, "B", unit_scale=True, unit_divisor=1024, initial=start, desc=part.stem) as bar,
        ):
            while chunk := answer.read(2**16):
                file.write(chunk)
                bar.update(len(chunk))
    return total is None or part.stat().st_size == total


def _check(url: str, part: Path, digest: str | None) -> None:
    sha256 = hashlib.sha256()
    with part.open("rb") as file:
        start = file.read(512)
        sha256.update(start)
        while chunk := file.read(2**20):
            sha256.update(chunk)
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        fault = "what came is a web page, not weights"
    elif digest and not sha256.hexdigest().startswith(digest.lower()):
        fault = f"what came has the SHA-256 {sha256.hexdigest()[:16]}, and not {digest}"
    else:
        return
    part.unlink()
    raise InputError(
        f"{url}: {fault}; it was removed. Try again, or download the file by other means and put it at "
        f"{part.with_suffix('')}"
    )
