"""Freed memory stays with the process while a network works, and goes back afterwards."""

import ctypes
import gc
from types import SimpleNamespace

import numpy as np
import pytest

from napari_dps import allocator, reconstruct, simulate
from napari_dps.allocator import memory_kept

resource = pytest.importorskip("resource", reason="POSIX keeps page faults")
SIZE, ROUNDS = 48 * 2**20, 6

glibc = pytest.mark.skipif(allocator._library() is None, reason="another C library")


def faults():
    """Return the pages that the kernel gave while large blocks came and went."""
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(ROUNDS):
        block = np.empty(SIZE, np.uint8)
        block[::4096] = 1
        del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@glibc
def test_pages_are_asked_for_once():
    with memory_kept("cpu"):
        faults()
        with memory_kept("cpu"):  # as another run of this process would
            pass
        assert faults() < SIZE / 4096 / 2
    with memory_kept("cuda"):
        assert allocator._inside == 0


@glibc
def test_memory_goes_back_when_the_last_block_ends():
    def resident():
        with open("/proc/self/statm", encoding="ascii") as told:
            return int(told.read().split()[1]) * resource.getpagesize()

    with memory_kept("cpu"):
        faults()
        held = resident()
    assert resident() < held - SIZE / 2


def test_what_the_user_has_set_is_left_alone(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert allocator._library() is None
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")
    assert allocator._library() is None
    monkeypatch.delenv("GLIBC_TUNABLES")
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    assert allocator._library() is None


def test_a_run_keeps_memory_and_ends_it_even_when_it_fails(monkeypatch):
    calls = []
    library = SimpleNamespace(
        mallopt=lambda *what: calls.append(what), malloc_trim=lambda pad: calls.append("trim")
    )
    monkeypatch.setattr(allocator, "_library", lambda: library)
    recipe = {
        "forward": {"kind": "gaussian-blur"},
        "noise": "poisson",
        "prior": "gaussian",
        "sampler": {"kind": "mmps", "steps": 3},
        "samples": 1,
    }
    y = simulate(np.full((16, 16), 20.0), recipe)
    reconstruct(y, recipe, device="cpu")
    assert calls[-1] == "trim" and allocator._inside == 0
    calls.clear()
    monkeypatch.setattr("napari_dps.run.find_start", lambda run: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        reconstruct(y, recipe, device="cpu")
    assert calls[-1] == "trim" and allocator._inside == 0


@glibc
def test_the_c_library_has_what_is_asked_of_it():
    library = allocator._library()
    assert isinstance(library, ctypes.CDLL)
    assert library.mallopt(allocator.TRIM_THRESHOLD, allocator.TRIM_AFTER) == 1
