"""A file is there whole or not at all."""

import errno
import os
import stat

import pytest
from mmengine.fileio import get_file_backend

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.atomic_file import AtomicLocalBackend, remove_unfinished, write_atomically


def test_mmengine_writes_local_files_with_it(tmp_path):
    assert type(get_file_backend(str(tmp_path))) is AtomicLocalBackend
    get_file_backend(str(tmp_path)).put_text("é", tmp_path / "new" / "text")
    assert (tmp_path / "new" / "text").read_bytes() == "é".encode()


def test_a_reader_never_sees_a_part(tmp_path, monkeypatch):
    path, seen = tmp_path / "file", []
    path.write_bytes(b"old")
    fsync = os.fsync

    def look(descriptor: int) -> None:
        fsync(descriptor)
        seen.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.read_bytes()))

    monkeypatch.setattr(os, "fsync", look)
    write_atomically(path, b"new")
    # The data is on the disk before the name is, and then the name too.
    assert seen == [(False, b"old"), (True, b"new")]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch, failing):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(InputError, match="file: 3 bytes can't be written .No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_runs_have_left_is_removed(tmp_path):
    for name in ("epoch_1.pth", "epoch_2.pth.77.unfinished", "last_checkpoint.77.unfinished"):
        (tmp_path / name).touch()
    assert len(remove_unfinished(tmp_path)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_1.pth"]


def test_a_link_stays_a_link(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    AtomicLocalBackend().put(b"data", link)
    assert (tmp_path / "target").read_bytes() == b"data" and link.is_symlink()
