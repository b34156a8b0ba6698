"""What an accelerator can do: one table for the training log, `bench` and `plan`."""

import re
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """Numbers of one chip, and how JAX shows it."""

    kinds: tuple[str, ...]  # beginnings of `jax.Device.device_kind`, each ending at a word's end
    peak: float  # dense bfloat16 FLOP/s (float16 where the chip has no bfloat16: V100, T4)
    devices: int  # JAX devices that share the chip
    memory: float  # bytes that a program may use, of the whole chip
    bandwidth: float  # bytes/s between the chip and its memory
    ici: float = 0.0  # bytes/s of an axis of the TPU's network, both directions together; 0 where it is no torus
    dcn: float = 0.0  # bytes/s to other slices, a chip's part of its host's network cards


# Google's "TPU versions" pages (cloud.google.com/tpu/docs/v5e and so on, read in November 2026). They give a chip's
# bandwidth to other chips in both directions together: divided by its axes (2 for a plane, 3 for a cube) it is `ici`.
# That of v3 and v4 is not on them: v3 is 656 Gbit/s a link and direction (Jouppi et al., CACM 2020), v4 from "How to
# Scale Your Model", chapter 2. The memory is what libtpu 0.0.42 names when a program asks for too much.
TPUS = {
    "v2": Chip(("TPU v2",), 45e12, 2, 2 * 7.48 * GIB, 700e9, 124e9, 3.125e9),
    "v3": Chip(("TPU v3",), 123e12, 2, 2 * 15.48 * GIB, 900e9, 164e9, 3.125e9),
    "v4": Chip(("TPU v4",), 275e12, 1, 30.75 * GIB, 1228e9, 90e9, 6.25e9),
    "v5e": Chip(("TPU v5 lite", "TPU v5e"), 197e12, 1, 15.75 * GIB, 819e9, 100e9, 3.125e9),
    "v5p": Chip(("TPU v5p", "TPU v5"), 459e12, 1, 95.74 * GIB, 2765e9, 200e9, 6.25e9),
    "v6e": Chip(("TPU v6 lite", "TPU v6e"), 918e12, 1, 31.25 * GIB, 1638e9, 200e9, 12.5e9),
    "tpu7x": Chip(("TPU7x", "TPU v7x"), 2307e12, 2, 2 * 94.75 * GIB, 7380e9, 200e9, 12.5e9),
}

# NVIDIA's data sheets, dense rates of the tensor cores.
GPUS = (
    Chip(("Tesla V100-PCIE", "Tesla V100-FHHL"), 112e12, 1, 16e9, 900e9),
    Chip(("Tesla V100", "NVIDIA V100"), 125e12, 1, 16e9, 900e9),
    Chip(("Tesla T4", "NVIDIA T4"), 65e12, 1, 16e9, 320e9),
    Chip(("NVIDIA L4",), 121e12, 1, 24e9, 300e9),
    Chip(("NVIDIA A100-SXM4-80GB",), 312e12, 1, 80e9, 2039e9),
    Chip(("NVIDIA A100 80GB PCIe",), 312e12, 1, 80e9, 1935e9),
    Chip(("NVIDIA A100", "A100"), 312e12, 1, 40e9, 1555e9),
    Chip(("NVIDIA H100 PCIe",), 756e12, 1, 80e9, 2000e9),
    Chip(("NVIDIA H100 NVL",), 835e12, 1, 94e9, 3900e9),
    Chip(("NVIDIA H100",), 989e12, 1, 80e9, 3350e9),
    Chip(("NVIDIA H200 NVL",), 835e12, 1, 141e9, 4800e9),
    Chip(("NVIDIA H200",), 989e12, 1, 141e9, 4800e9),
)


def find_chip(device_kind: str) -> Chip | None:
    """The chip behind a JAX device, or None for one that is not in the table."""
    # Nothing nearest: a share of a guessed peak is worse than none. A name that goes on with the same word is another
    # card, an L40 is no L4.
    for chip in (*TPUS.values(), *GPUS):
        if any(re.match(re.escape(kind) + r"(?![\w])", device_kind, re.IGNORECASE) for kind in chip.kinds):
            return chip
    return None
