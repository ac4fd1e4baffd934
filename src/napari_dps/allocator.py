"""Freed memory that stays with the process while a network works: glibc on a CPU alone.

Every call of a network asks for the same large blocks and frees them. The GNU C library hands such
blocks back to the kernel at once, which clears each page again at the next call, and large batches
spend a good part of their time on that. torch keeps freed memory for GPUs by itself. Other C
libraries have rules of their own and are left alone.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["memory_kept"]

# Parameters of mallopt(3).
TRIM_THRESHOLD, MMAP_MAX = -1, -4
MMAP_MAX_DEFAULT = 65536
TRIM_AFTER = 64 * 2**20
"""What glibc's own rule reaches once large blocks have been freed."""
OWN_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_")

_lock = threading.Lock()
_inside = 0


def _library() -> Any:
    """Return the C library if its rule can be changed and nobody else has done so."""
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return None
    tuned = "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if tuned or any(name in os.environ for name in OWN_SETTINGS):
        return None
    return ctypes.CDLL(None)


@contextmanager
def memory_kept(device: str) -> Iterator[None]:
    """Keep freed memory for the next call within the block; give it back after the last block.

    Parameters
    ----------
    device : str
        Where the network is. Elsewhere than on the CPU nothing is done.

    Notes
    -----
    The rule is the whole process's. Blocks of several threads may overlap in time.
    """
    global _inside
    library = _library() if device == "cpu" else None
    if library is None:
        yield
        return
    with _lock:
        _inside += 1
        if _inside == 1:
            library.mallopt(MMAP_MAX, 0)
            library.mallopt(TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                library.mallopt(MMAP_MAX, MMAP_MAX_DEFAULT)
                library.mallopt(TRIM_THRESHOLD, TRIM_AFTER)
                library.malloc_trim(0)
