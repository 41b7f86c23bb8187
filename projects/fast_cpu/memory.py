"""The memory of the process."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_memory() -> None:
    """Keep memory that tensors have given back for those to come; nothing happens without glibc.

    Its malloc gives blocks of 32 MiB back to the kernel, which must clear every page of the next one: a
    fifth of the time of a forward at 800 x 1333.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
