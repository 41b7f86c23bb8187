"""Pascal VOC: an XML file an image, boxes by their corners in pixels."""

from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

from projects.reliable_runner.errors import InputError
from tools.dataset_converters.export import SPLITS, Export, Picture, find_files, find_image, size_of, split_of
from tools.dataset_converters.outline import number, rectangle


def read(folder: Path) -> Export:
    """Read XML files anywhere below ``folder``; images stand beside them or in JPEGImages or images.

    Where there is ``ImageSets/Main/{train,val,test}.txt`` it says which files are read, and for what;
    elsewhere folders named like splits say it. What is "difficult" becomes a crowd, neither trained on nor
    counted.
    """
    files = list(_listed(folder)) or [
        (path, split_of(path.relative_to(folder).parts[:-1])) for path in find_files(folder, "**/*.xml")
    ]
    return Export(None, len(files), (_picture(path, split) for path, split in files))


def read_xml(path: Path, tag: str) -> ElementTree.Element:
    """Parse a file whose root is ``tag``; `InputError` if it is none, or declares a document type.

    Its entities could grow to any size or name other files.
    """
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


def _listed(folder: Path) -> Iterator[tuple[Path, str]]:
    for name, split in SPLITS.items():
        for file in sorted(folder.rglob(f"ImageSets/Main/{name}.txt")):
            for line in filter(str.strip, file.read_text(errors="replace").splitlines()):
                names = line.strip().strip('"'), line.split()[0]  # a number may follow a name
                paths = [file.parents[2] / "Annotations" / f"{name}.xml" for name in names]
                yield next(filter(Path.is_file, paths), paths[-1]), split


def _picture(path: Path, split: str | None) -> Picture:
    root, parent = read_xml(path, "annotation"), path.parent
    name = PureWindowsPath((root.findtext("filename") or "").strip()).name
    beside = Path(*("JPEGImages" if part == "Annotations" else part for part in parent.parts))
    folders = parent, beside, parent.parent / "JPEGImages", parent.parent / "images", parent.parent
    image = find_image(name, folders, path, path.stem)
    size = size_of(image, path, (root.findtext("size/width"), root.findtext("size/height")))
    objects = []
    for index, node in enumerate(root.findall("object"), 1):
        where = f"{path}: object {index}"
        if not (label := (node.findtext("name") or "").strip()):
            raise InputError(f"{where} has no name")
        keys = "xmin", "ymin", "xmax", "ymax"
        corners = [number(node.findtext(f"bndbox/{key}"), f"{where}: {key}") for key in keys]
        is_crowd = (node.findtext("difficult") or "").strip() == "1"
        objects.append(dict(name=label, iscrowd=int(is_crowd), **rectangle(*corners)))
    return Picture(image, size, objects, path, split)
