"""The parameters in a run's checkpoint, read by TensorStore one array after the other.

Orbax, which wrote them, reads all NumPy arrays at once, compressed and decompressed side by side, and when one is
damaged leaves the others' readers to print traces. What it writes are documented formats: a Zarr 3 array for each
parameter, called after its path with dots, in an OCDBT key-value store.
"""

from pathlib import Path

import numpy as np
import tensorstore

from albert_jax.cluster import workdirs
from albert_jax.engine.checkpoint import FOLDER, open_for_reading
from albert_jax.errors import AlbertError
from albert_jax.interop.safetensors import aligned


def best_params(workdir: Path) -> dict[str, np.ndarray]:
    """Path -> array of the best checkpoint; the optimizer's moments are not read.

    Raises AlbertError where there is no finished checkpoint, or a damaged one.
    """
    try:
        step = open_for_reading(workdir).best_step
    except AlbertError:
        raise
    except Exception as error:  # whatever Orbax and json make of damaged files
        raise _damaged(f"{workdir / FOLDER}", error) from error
    folder = workdirs.shared_dir(workdir) / FOLDER / str(step) / "params"
    url = str(folder) if "://" in str(folder) else f"file://{folder}"
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 0}})
    found: dict[str, np.ndarray] = {}
    what = str(folder)
    try:
        keys = tensorstore.KvStore.open({"driver": "ocdbt", "base": url}, context=context).result().list().result()
        stores = {}
        for name in sorted({key.decode().partition("/")[0] for key in keys}):
            kvstore = {"driver": "ocdbt", "base": url, "path": f"{name}/"}
            spec = {"driver": "zarr3", "kvstore": kvstore}
            stores[name] = tensorstore.open(spec, context=context, read=True).result()
        for name in sorted(stores, key=lambda name: -stores[name].size):  # the largest while there is most room
            path = name.replace(".", "/")
            what = f"{folder}: {path}"
            found[path] = aligned(stores[name].shape, stores[name].dtype.numpy_dtype)
            tensorstore.array(found[path], context=context).write(stores[name]).result()
    except (ValueError, OSError, RuntimeError) as error:
        raise _damaged(what, error) from error
    if not found:
        raise AlbertError(f"{folder}: no array is in it; restore the checkpoint from a copy, or remove it")
    return dict(sorted(found.items()))


def _damaged(what: str, error: Exception) -> AlbertError:
    said = str(error).partition("\n")[0].partition(" [")[0][:160]  # TensorStore's own places follow
    return AlbertError(
        f"{what}: damaged ({type(error).__name__}: {said}); restore the checkpoint from a copy, or remove it, and the "
        "next best is taken"
    )
