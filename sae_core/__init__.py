"""The library: texts in; vectors, a sparse autoencoder, features, families, labels and steered search out.

`Collection` is its door for people, `Explorer` the one for programs that show things. They are imported when
they are first asked for, so that a program that needs one small room of the library does not wait for all.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_core.collection import Collection
    from sae_core.explorer import Explorer

__all__ = ["Collection", "Explorer"]

_ROOMS = {"Collection": "sae_core.collection", "Explorer": "sae_core.explorer"}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"sae_core has no {name}")
    return getattr(importlib.import_module(_ROOMS[name]), name)
