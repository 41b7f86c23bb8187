"""XML without a document type, whose entities can grow to any size or name other files."""

from pathlib import Path
from xml.etree import ElementTree

from projects.reliable_runner.errors import InputError


def read_xml(path: Path, tag: str) -> ElementTree.Element:
    """Parse a file.

    Args:
        path: the file.
        tag: of its root.

    Raises:
        InputError: it can't be read, is no XML, declares a document type, or has another root.
    """
    try:
        content = path.read_bytes()
        if b"<!DOCTYPE" in content.replace(b"\0", b""):  # without the zeros of UTF-16
            raise InputError(f"{path}: it has a DOCTYPE, which no label tool writes; it is not read")
        root = ElementTree.fromstring(content)
    except OSError as error:
        raise InputError(f"{path}: it can't be read ({error.strerror})") from error
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # its encoding may be unknown
        raise InputError(f"{path}: it is not XML, or cut short ({error})") from error
    if root.tag != tag:
        raise InputError(f"{path}: it holds <{root.tag:.80}>, not <{tag}>")
    return root
