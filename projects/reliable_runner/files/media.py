"""Images and videos on disk: found, read and written."""

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2
import mmcv
import numpy as np
from mmdet.utils.misc import IMG_EXTENSIONS

from ..errors import InputError

VIDEO_EXTENSIONS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv")


def find_media(inputs: Sequence[str | Path]) -> list[Path]:
    """Find images and videos, each once, those of a folder or pattern in the order of their names.

    ``inputs`` are files (any), folders without their subfolders, and patterns, in which ``**`` stands for any
    subfolders. `InputError` if one does not exist, or holds neither image nor video.
    """
    found: dict[Path, None] = {}
    for path in (Path(entry).expanduser() for entry in inputs):
        if path.is_file():
            found[path] = None
            continue
        entries = path.iterdir() if path.is_dir() else map(Path, glob.glob(str(path), recursive=True))
        extensions = (*IMG_EXTENSIONS, ".npy", *VIDEO_EXTENSIONS)
        media = sorted(file for file in entries if file.is_file() and file.suffix.lower() in extensions)
        if not media:
            hint = f"; for those in its subfolders say '{path}/**/*.jpg'" if path.is_dir() else ""
            raise InputError(f"{path}: no image and no video is found there{hint}")
        found.update(dict.fromkeys(media))
    return list(found)


def short_names(paths: Sequence[Path]) -> list[str]:
    """The names of the files if they differ, else their paths below the folder that all share."""
    names = [path.name for path in paths]
    if len(set(names)) == len(names):
        return names
    shared = os.path.commonpath([path.absolute().parent for path in paths])
    return [path.absolute().relative_to(shared).as_posix() for path in paths]


def is_video(path: Path) -> bool:
    """Whether the name is that of a video."""
    return path.suffix.lower() in VIDEO_EXTENSIONS


def picture_name(name: str) -> str:
    """``name``, with ``.png`` after it unless it is that of a JPEG or PNG."""
    return name if name.lower().endswith((".jpg", ".jpeg", ".png")) else f"{name}.png"


class Video:
    """The frames of a video, (h, w, 3), uint8, BGR, upright, read one by one.

    Not mmcv's ``VideoReader``: it seeks wherever a container counts its frames otherwise, and loses some.
    ``num_frames`` is what the file says (some tell an estimate), 0 if it does not, ``fps`` then 25.
    `InputError` if the file is no video, or, while it is iterated, ends before it should.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise InputError(
                f"video {path} can't be opened: it is no video, cut short, or of a codec that "
                "OpenCV does not know; ffmpeg -i VIDEO out.mp4 may help"
            )
        self.num_frames = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or 25.0

    def __iter__(self) -> Iterator[np.ndarray]:
        number = 0
        while (grabbed := self._capture.read())[0]:
            number += 1
            yield grabbed[1]
        if number < self.num_frames:
            raise InputError(
                f"video {self.path} has {number} readable frames of {self.num_frames}; it may be cut short"
            )


class MediaWriter(ExitStack):
    """Writes pictures into a folder, which it makes, those of a video as a video; a context manager."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._videos: dict[Path, cv2.VideoWriter] = {}

    def write(self, name: str, picture: np.ndarray, fps: float | None = None) -> None:
        """Write a picture (h, w, 3), uint8, BGR, or the next frame of a video of ``fps`` frames a second.

        What is neither JPEG nor PNG gets ``.png``, a video ``.mp4`` after its ``name`` below the folder.
        `InputError` if it can't be written.
        """
        if fps is None:
            name = picture_name(name)
        elif not name.lower().endswith(".mp4"):
            name += ".mp4"
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if fps is None:
                mmcv.imwrite(picture, str(path))
            else:
                self._video(path, picture, fps).write(np.ascontiguousarray(picture))
        except OSError as error:
            raise InputError(f"{path}: can't be written ({error})") from error

    def _video(self, path: Path, picture: np.ndarray, fps: float) -> cv2.VideoWriter:
        if path not in self._videos:
            size = picture.shape[1::-1]
            video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
            self.callback(video.release)
            self._videos[path] = video
            if not video.isOpened():
                raise OSError(f"OpenCV makes no video of {size[0]}x{size[1]} at {fps:g} frames a second")
        return self._videos[path]
