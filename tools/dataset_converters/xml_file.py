"""XML without a document type, whose entities can grow to any size or name other files."""

from pathlib import Path
from xml.etree import ElementTree

from projects.reliable_runner.errors import InputError


def read_xml(path: Path, tag: str) -> ElementTree.Element:
    """Parse a file whose root is ``tag``; `InputError` if it is none, or declares a document type."""
    content = path.read_bytes()
    try:
        has_doctype = b"<!DOCTYPE" in content.replace(b"\0", b"")  # without the zeros of UTF-16
        root = None if has_doctype else ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # its encoding may be unknown
        raise InputError(f"{path}: it is not XML, or cut short ({error})") from error
    if root is None:
        raise InputError(f"{path}: it has a DOCTYPE, which no label tool writes; it is not read")
    if root.tag != tag:
        raise InputError(f"{path}: it holds <{root.tag:.80}>, not <{tag}>")
    return root
