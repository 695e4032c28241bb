"""Pictures that are drawn when somebody first asks for them, one at a time, and kept."""

from __future__ import annotations

import threading
from collections.abc import Callable

from app.sharing.drawing import draw
from app.views.sharing import Digest
from sae_core.cache import Cache
from sae_core.errors import SaefariError

MAX_KEPT_BYTES = 16 * 2**20
MAX_WAITING = 8  # pictures that are asked for at once


class TooManyPictures(SaefariError):
    """So many pictures are asked for that another would not come soon."""

    def __init__(self) -> None:
        super().__init__(f"{MAX_WAITING} other pictures are being drawn.", remedy="Try again in a moment.")


class Pictures:
    """The pictures of one server. Fonts serve one thread at a time, so drawing takes turns."""

    def __init__(self) -> None:
        self._kept: Cache[bytes] = Cache(MAX_KEPT_BYTES, len)
        self._places = threading.BoundedSemaphore(MAX_WAITING)
        self._turn = threading.Lock()

    def get(self, key: object, digest: Callable[[], Digest]) -> bytes:
        """The picture that `key` names, a PNG; without it, that of `digest()`.

        Raises TooManyPictures where too many are waiting.
        """
        if (known := self._kept.get(key)) is not None:
            return known
        if not self._places.acquire(blocking=False):
            raise TooManyPictures
        try:
            told = digest()
            with self._turn:
                made = draw(told)
        finally:
            self._places.release()
        self._kept.put(key, made)
        return made
