"""A file from the network, fetched once: resumed after a break, checked, complete or not there."""

import errno
import hashlib
import http.client
import os
import string
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import torch
from filelock import FileLock

from ..errors import InputError, first_line
from ..progress import progress

_TRIES = 4  # in a row that bring nothing
_TIMEOUT = 60  # seconds in which nothing comes
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def cached_path(url: str, digest: str | None = None) -> Path:
    """Where the file of an address lies once it is fetched: in torch.hub's folder.

    It keeps its name if its ``digest`` is known; else the name gets digits of the address's SHA-256, so that
    files of one name from two addresses are two. `InputError` if the address ends with a folder.
    """
    name = urllib.parse.urlsplit(url).path.rpartition("/")[2]
    if not name:
        raise InputError(f"{url}: this address names no file")
    path = Path(torch.hub.get_dir(), "checkpoints", name)
    return path if digest else path.with_stem(f"{path.stem}-{hashlib.sha256(url.encode()).hexdigest()[:8]}")


def download(url: str, digest: str | None = None, path: Path | None = None) -> Path:
    """Fetch a file, unless it is there, to ``path``, by default `cached_path`, and return where it is.

    A bar shows the progress. After a break it goes on where it was, in a later call too. Of several
    processes one fetches, and the others wait for it. ``digest`` is the beginning of the file's SHA-256.

    `InputError` if there is no connection or no such file, no space, or what came is a web page or another
    text, nothing, or has another digest. A wrong file is removed; the message says where in torch.hub's
    folder to put one fetched by other means.
    """
    again = ways = ""
    if path is None:
        path = cached_path(url, digest)
        again = ". Try again, what has come is kept"
        ways = (
            f". You may download it by other means and put it at {path}; or do without it: for a backbone's "
            "weights set model.backbone.init_cfg=None"
        )
    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            if not path.exists():  # another process may have fetched it
                _fetch(url, part)
                if fault := _fault(part, digest):
                    part.unlink()
                    raise InputError(f"{url}: {fault}; it was removed{ways}")
                os.replace(part, path)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"{url}: the download failed ({first_line(error)}){again}{ways}") from error
    return path


def _fetch(url: str, part: Path) -> None:
    """Append to ``part`` until all is there; a break after which something has come does not count."""
    tries = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _fetch_from(url, part, before):
                return
            problem = OSError("the connection broke")
        except (OSError, http.client.HTTPException) as error:
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code != 429
            if refused or getattr(error, "errno", None) in _OF_THE_DISK:
                raise
            problem = error
        tries = 0 if part.exists() and part.stat().st_size > before else tries + 1
        if tries == _TRIES:
            raise problem
        time.sleep(tries)


def _fetch_from(url: str, part: Path, start: int) -> bool:
    """Fetch the bytes from ``start`` on; whether that is all of them."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    # Blanks and letters of any language, as a browser shows them.
    request = urllib.request.Request(urllib.parse.quote(url, string.punctuation), headers=headers)
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


def _fault(part: Path, digest: str | None) -> str | None:
    """What is wrong with a file that has come."""
    sha256 = hashlib.sha256()
    with part.open("rb") as file:
        start = file.read(512)
        sha256.update(start)
        while chunk := file.read(2**20):
            sha256.update(chunk)
    text = start.decode(errors="replace").lstrip("\ufeff \t\r\n")
    if text.lower().startswith(("<!doctype", "<html")):
        return "what came is a web page, and not the file"
    if not text:
        return "what came is empty"
    if "\0" not in text and text[0] in "<{[":  # safetensors' "{" comes after a number
        return f"what came is {text[:40]!r}, and not the file"
    if digest and not sha256.hexdigest().startswith(digest.lower()):
        return f"what came has the SHA-256 {sha256.hexdigest()[:16]}, and not {digest}"
    return None
