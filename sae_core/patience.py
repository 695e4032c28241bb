"""How long a server on the network wants to be left alone."""

from __future__ import annotations

import email.utils
import time

# Statuses after which the same question may be answered a little later.
BUSY = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529))


def retry_after(value: str, now: str = "") -> float:
    """Seconds from the header Retry-After, which has seconds or a date; 0 if it has neither.

    `now` is the header Date of the same answer: a date is then a difference of the server's own clock, and
    ours may be wrong.
    """
    try:
        return min(max(0.0, float(value)), _LONGEST)
    except ValueError:
        pass
    moment = _moment(value)
    if moment is None:
        return 0.0
    server = _moment(now)
    return min(max(0.0, moment - (time.time() if server is None else server)), _LONGEST)


_LONGEST = 1e9  # also of "inf"


def _moment(value: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
