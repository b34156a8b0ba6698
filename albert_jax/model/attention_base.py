"""What every attention backend checks before it runs."""

import jax

from albert_jax.errors import AlbertError


def refuse_dropout(name: str, rate: float) -> None:
    """Raises AlbertError for a rate that the implementation called `name` would ignore."""
    if rate:
        raise AlbertError(
            f"model.attention {name!r} cannot drop attention probabilities; set model.attention_dropout {rate:g} to 0 "
            "or model.attention to 'xla'"
        )


def require_platform(name: str, platform: str) -> None:
    """Raises AlbertError where the implementation called `name` is not traced for `platform`: that of the surrounding
    mesh, which may be of devices that are not here, or without a mesh that of this machine."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    found = jax.default_backend() if device is None else device.platform
    if found != platform:
        raise AlbertError(
            f"model.attention {name!r} needs a {platform.upper()} and this program is for a {found.upper()}; "
            "set model.attention to 'xla'"
        )
