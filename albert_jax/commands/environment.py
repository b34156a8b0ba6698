"""JAX as the command line wants it."""

import glob
import os
from pathlib import Path


def set_up_jax() -> None:
    """To be called before the first array is made."""
    # Here, not above: verbs import this module before they know that they need JAX.
    import jax

    from albert_jax.cluster.host_memory import keep_freed_memory

    keep_freed_memory()
    # Where libtpu is installed and there is no TPU, it asks for these two at length before JAX goes on with the CPU.
    if not glob.glob("/dev/accel*") and not glob.glob("/dev/vfio/*"):
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    # Compiled programs outlive the process: a run that is continued, and the verbs of one model, share them.
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(home / "albert_jax" / "compiled"))
