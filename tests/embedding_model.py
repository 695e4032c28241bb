"""An embedding model behind an endpoint, for tests: vectors from the words of a text, sent well or badly."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.language_model import Call, Raw
from tests.planted import PlantedEmbedder

PLANTED = PlantedEmbedder()
Change = Callable[[list[dict[str, Any]]], Any]


def vectors_of(texts: Sequence[str]) -> NDArray[np.float32]:
    """What the model makes of texts: those of the planted collection, (B, 32)."""
    return np.stack([PLANTED._one(text) for text in texts])


def texts_of(call: Call) -> list[str]:
    """The texts of a call."""
    texts: list[str] = call.body["input"]
    return texts


def embeddings(call: Call, *, as_numbers: bool = False, change: Change = lambda items: items) -> Raw:
    """The answer to a call, in base64 where that is asked for; `change` spoils its list of vectors."""
    vectors = 3.0 * vectors_of(texts_of(call))  # no model need give unit vectors
    in_base64 = call.body.get("encoding_format") == "base64" and not as_numbers
    shown: list[Any] = [as_base64(x_D) if in_base64 else x_D.tolist() for x_D in vectors]
    items = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(shown)]
    usage = {"prompt_tokens": 5 * len(items), "total_tokens": 5 * len(items)}
    whole = {"object": "list", "model": call.body["model"], "data": change(items), "usage": usage}
    return Raw(body=json.dumps(whole).encode(), headers={"Content-Type": "application/json"})


def as_base64(x_D: NDArray[np.float32]) -> str:
    """Little-endian float32."""
    return base64.b64encode(x_D.astype("<f4").tobytes()).decode()


def refusing(status: int, said: str = "") -> Raw:
    """An error as OpenAI words it."""
    return Raw(status, json.dumps({"error": {"message": said}}).encode())
