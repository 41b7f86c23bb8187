"""Files are found, videos read and written."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.media import MediaWriter, Video, find_media, short_names


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("b.JPG", "a.png", "notes.txt", "clip.mp4", "sub/c.webp", "sub/a.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"?")
    return tmp_path


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (["."], ["a.png", "b.JPG", "clip.mp4"]),
        (["*.png"], ["a.png"]),
        (["**/*"], ["a.png", "b.JPG", "clip.mp4", "sub/a.png", "sub/c.webp"]),
        (["sub", "sub/a.png", "b.JPG"], ["sub/a.png", "sub/c.webp", "b.JPG"]),
        (["notes.txt"], ["notes.txt"]),
    ],
)
def test_files_folders_and_patterns(folder, inputs, names):
    found = find_media([folder / entry for entry in inputs])
    assert [path.relative_to(folder).as_posix() for path in found] == names


def test_nothing_found_is_named(folder):
    (folder / "empty").mkdir()
    for name in ("empty", "none.jpg", "*.gif"):
        with pytest.raises(InputError, match=re.escape(f"{folder / name}: ")):
            find_media([folder, folder / name])


def test_short_names_differ(folder):
    assert short_names([folder / "sub" / "c.webp", folder / "a.png"]) == ["c.webp", "a.png"]
    assert short_names([folder / "sub" / "a.png", folder / "a.png"]) == ["sub/a.png", "a.png"]
    assert short_names([Path("/x/u/a.png"), Path("/x/v/a.png")]) == ["u/a.png", "v/a.png"]


def test_a_video_is_read_as_it_was_written(tmp_path):
    frames = [np.full((48, 64, 3), (60 * i, 250 - 60 * i, 100), np.uint8) for i in range(4)]
    with MediaWriter(tmp_path / "new") as writer:
        for frame in frames:
            writer.write("a/clip.avi", frame, fps=7.0)
    video = Video(tmp_path / "new" / "a" / "clip.avi.mp4")
    assert (video.fps, video.num_frames) == (7.0, 4)
    read = list(video)
    assert len(read) == 4
    for expected, frame in zip(frames, read, strict=True):
        assert np.abs(frame.astype(int) - expected).mean() < 5  # MPEG-4 loses a little


def test_pictures_keep_a_name_that_can_be_written(tmp_path):
    picture = np.full((4, 6, 3), (50, 100, 200), np.uint8)  # BGR
    with MediaWriter(tmp_path) as writer:
        for name in ("a.png", "a.ppm", "sub/b.jpg"):
            writer.write(name, picture)
    assert np.asarray(Image.open(tmp_path / "a.ppm.png"))[0, 0].tolist() == [200, 100, 50]
    assert (tmp_path / "a.png").is_file() and (tmp_path / "sub" / "b.jpg").is_file()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file.*can't be written"):
        MediaWriter(tmp_path / "file").write("a.png", picture)


def test_a_video_that_is_none_or_ends_early_is_named(tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(InputError, match="a.mp4 can't be opened"):
        Video(tmp_path / "a.mp4")
    random = np.random.default_rng(0)
    path = tmp_path / "b.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for _ in range(8):
        writer.write(random.integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = iter(Video(path))
    with pytest.raises(InputError, match="b.avi has . readable frames of 8"):
        for _ in range(8):
            assert next(frames).shape == (48, 64, 3)
