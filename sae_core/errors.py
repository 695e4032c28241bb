"""The errors of the library. Each carries the data that its message is made from.

A message says what happened, where, why if it is known, and what to do about it.
"""

from __future__ import annotations

import unicodedata

LINE_LETTERS = 120


class SaefariError(Exception):
    """Something a person can act on: `str(error)` is the whole message, `remedy` what to do."""

    def __init__(self, what: str, *, remedy: str = "") -> None:
        super().__init__(f"{what} {remedy}".strip())
        self.what = what
        self.remedy = remedy


class CorpusError(SaefariError):
    """A corpus that cannot be read, or in which no usable document is left."""


class EmbeddingError(SaefariError):
    """An embedder that cannot be loaded or failed, or embeddings that do not fit the corpus."""


class EmbedderNotReady(EmbeddingError):
    """The encoder is still being loaded, or this collection has none; other pages still work."""


class TrainingError(SaefariError):
    """A configuration or data on which no sparse autoencoder can be trained."""


class ToldElsewhere(SaefariError):
    """What is wrong has been said by another process of the same run; this one only ends."""


class ArtifactError(SaefariError):
    """An artifact file that is missing, damaged or of another schema."""


class ConversionError(SaefariError):
    """A checkpoint of another package that cannot be read, or an SAE that another layout cannot express."""


class BusyError(SaefariError):
    """Another process is writing the same collection."""


class NotFoundError(SaefariError):
    """No collection, SAE, feature, family or document of that name."""


class AnswerError(SaefariError):
    """A question to which a model behind an endpoint gave no usable answer; others may have one."""


class SourceError(SaefariError):
    """A source of texts on the network that cannot be reached, refuses, or sends what makes no sense."""


class QuestionRefused(AnswerError):
    """A question that an endpoint will not have; too long, as a rule."""


class EndpointError(SaefariError):
    """A model's endpoint that cannot be reached or answers nobody: asking on makes no sense."""


def first_line(error: BaseException) -> str:
    """Class and first line of what another library raised, to be named in a message of ours."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def tidy(text: str, most: int = LINE_LETTERS) -> str:
    """A text in one line: no control or direction characters, at most `most` letters, cut at a word's end.

    Every text that comes from outside goes through here before it is a label or part of a message.
    """
    shown = "".join(
        " " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c)[0] != "C"
    )
    shown = " ".join(shown.split())
    if len(shown) <= most:
        return shown
    cut = shown[: most - 1]
    return (cut.rsplit(" ", 1)[0] or cut).rstrip(" ,;:") + "…"
