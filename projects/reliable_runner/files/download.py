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
from .atomic_file import write_atomically

_TRIES = 4  # in a row that bring nothing
_TIMEOUT = 60  # seconds in which nothing comes
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def cached_path(url: str) -> Path:
    """Where the file of an address lies once it is fetched: in torch.hub's folder, under its own name.

    If another address has begun a file of this name, the name gets the first digits of the address's SHA-256.

    Raises:
        InputError: the address ends with a folder.
    """
    name = urllib.parse.urlsplit(url).path.rpartition("/")[2]
    if not name:
        raise InputError(f"{url}: this address names no file")
    path = Path(torch.hub.get_dir(), "checkpoints", name)
    note = _note(path)
    if note.exists() and note.read_text() != _sha256(url):
        path = path.with_stem(f"{path.stem}-{_sha256(url)[:8]}")
    return path


def _sha256(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()  # for an address may hold a secret


def _note(path: Path) -> Path:
    """The file that says which address another one, or a part of it, is from."""
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
        InputError: there is no connection or no such file, no space, or what came is a web page or another
            text, nothing, or has another digest. A wrong file is removed; the message says where in
            torch.hub's folder to put one fetched by other means.
    """
    in_cache, again, ways = path is None, "", ""
    if path is None:
        path = cached_path(url)
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
            # Another process may have begun a file of this name from another address.
            is_taken = in_cache and cached_path(url) != path
            if not is_taken and not path.exists():
                write_atomically(_note(path), _sha256(url).encode())
                _fetch(url, part)
                if fault := _fault(part, digest):
                    part.unlink()
                    raise InputError(f"{url}: {fault}; it was removed{ways}")
                os.replace(part, path)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"{url}: the download failed ({first_line(error)}){again}{ways}") from error
    return download(url, digest) if is_taken else path


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
    headers = {"Range": f"bytes={start}-"} if start else {}
    request = urllib.request.Request(_quoted(url), headers=headers)
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


def _quoted(url: str) -> str:
    """An address as a browser shows it, with blanks and letters of any language, as a server wants it."""
    parts = urllib.parse.urlsplit(url)
    path, query = (urllib.parse.quote(part, string.punctuation) for part in (parts.path, parts.query))
    return urllib.parse.urlunsplit(parts._replace(path=path, query=query))


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
