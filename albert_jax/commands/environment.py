"""JAX as the command line wants it."""

import ctypes
import glob
import os
import sys
from pathlib import Path
from typing import Any

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # names of glibc's malloc.h
_HUGE_PAGES = 14  # MADV_HUGEPAGE of Linux
_HUGE_PAGE = 2 << 20  # bytes


def set_up_jax() -> None:
    """To be called before the first array is made."""
    # Here, not above: verbs import this module before they know that they need JAX.
    import jax

    _keep_freed_memory()
    # Where libtpu is installed and there is no TPU, it asks for these two at length before JAX goes on with the CPU.
    if not glob.glob("/dev/accel*") and not glob.glob("/dev/vfio/*"):
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    # Compiled programs outlive the process: a run that is continued, and the verbs of one model, share them.
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(home / "albert_jax" / "compiled"))


def _keep_freed_memory() -> None:
    """Makes this process keep what it frees, on huge pages: on a CPU this saves a quarter of a training step's time.

    The price is a resident size that stays at its peak. Linux with glibc only: elsewhere nothing happens.
    """
    # XLA's CPU client takes 1 to 3 GB of temporaries from malloc at every step and gives them back, and glibc hands
    # blocks of that size straight to the kernel: every step then faults in every page anew.
    libc: Any = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if not hasattr(libc, "gnu_get_libc_version"):
        return
    for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_ARENA_MAX, 1)):
        libc.mallopt(option, value)
    # Half of the memory as one block of the heap, never touched, so it takes no pages: only the advice remains on it.
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if block := libc.malloc(size):
        first, last = -(-block // _HUGE_PAGE) * _HUGE_PAGE, (block + size) // _HUGE_PAGE * _HUGE_PAGE
        libc.madvise(first, last - first, _HUGE_PAGES)
        libc.free(block)
