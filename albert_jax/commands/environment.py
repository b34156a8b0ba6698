"""JAX as the command line wants it."""

import glob
import os
from pathlib import Path


def set_up_jax() -> None:
    """Keeps freed memory between steps, silences complaints about a TPU that does not exist, and stores compiled
    programs in a cache that outlives the process, unless JAX_COMPILATION_CACHE_DIR names one."""
    import jax

    from albert_jax.cluster.host_memory import keep_freed_memory

    keep_freed_memory()
    # Where libtpu is installed and there is no TPU, it asks for these two at length before JAX goes on with the CPU.
    if not glob.glob("/dev/accel*") and not glob.glob("/dev/vfio/*"):
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(home / "albert_jax" / "compiled"))
