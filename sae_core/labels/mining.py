"""Phrases of a corpus: which there are, which stand out in some documents, and how well each reads.

Every run of one to four words that may be a phrase (see `words`) is found once per document. A phrase is
the tuple of its words' normal forms, so "gamma-ray bursts" and "gamma ray burst" are one; it is shown as
it is most often written.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sae_core.labels import MAX_LETTERS
from sae_core.labels.words import BREAK, HYPHEN, INSIDE, SPACE, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

MAX_WORDS = 4  # hyphens join: "low-mass X-ray binary" has three
MAX_TOKENS = 5
DOCUMENTS_PER_BLOCK = 4096
TITLE_WEIGHT = 1.5  # of a document that has the phrase in its title, against one that does not
MIN_DOCUMENTS = 3  # of a common phrase; and of an abbreviation with what it stands for
N_READ = 50  # occurrences that tell how a phrase is written
CONTAINED = 0.6  # a phrase that stands in a longer one on more than this share of its documents is a fragment
FRAGMENT_COST = 0.5  # what one that always does loses of its readability
ADDITION_COST = 0.15  # of an end that adds little
MANY_LETTERS = 40
SPELLED_OUT = 0.25  # share of an abbreviation's documents that have what it stands for


@dataclass(frozen=True)
class Phrases:
    """Which phrases stand in which documents: E entries, by document; P distinct phrases."""

    tokens: Tokens
    document_ptr: NDArray[np.int64]  # (M + 1,)
    phrase_E: NDArray[np.int32]
    first_E: NDArray[np.int64]  # token at which the phrase begins
    is_title_E: NDArray[np.bool_]
    length_P: NDArray[np.uint8]  # tokens
    example_P: NDArray[np.int64]  # a token at which it begins
    n_documents_P: NDArray[np.int32]

    @property
    def n_documents(self) -> int:
        return len(self.document_ptr) - 1

    def entries(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the entries of some documents."""
        spans = [np.arange(self.document_ptr[at], self.document_ptr[at + 1]) for at in documents]
        return np.concatenate(spans) if spans else np.zeros(0, dtype=np.int64)

    def words(self, phrase: int) -> tuple[int, ...]:
        """Normal forms of a phrase's words."""
        first = self.example_P[phrase]
        span = self.tokens.word_T[first : first + self.length_P[phrase]]
        return tuple(self.tokens.normal_W[span].tolist())

    def text(self, phrase: int, entries: NDArray[np.int64]) -> str:
        """The phrase as it is most often written in some entries.

        A title, or what may be the start of a sentence, does not tell a word's case: occurrences there
        count only if there are no others, and then in each word's usual case.
        """
        tokens, length = self.tokens, int(self.length_P[phrase])
        firsts = self.first_E[entries]
        is_plain = ~tokens.is_title_T[firsts] & (firsts > 0) & (tokens.gap_T[firsts - 1] != BREAK)
        written: Counter[tuple[tuple[int, ...], tuple[int, ...]]] = Counter()
        for first in (firsts[is_plain] if is_plain.any() else firsts).tolist():
            words = tokens.word_T[first : first + length]
            words = words if is_plain.any() else tokens.shown_W[words]
            written[tuple(words.tolist()), tuple(tokens.gap_T[first : first + length - 1].tolist())] += 1
        (chosen, gaps), _ = min(written.items(), key=lambda item: (-item[1], item[0]))
        parts = [tokens.words[chosen[0]]]
        for word, gap in zip(chosen[1:], gaps, strict=True):
            parts += ["-" if gap == HYPHEN else " ", tokens.words[word]]
        return "".join(parts)


def find_phrases(tokens: Tokens) -> Phrases:
    """All phrases of all documents, each once per document, a block of documents at a time."""
    n_documents = len(tokens.document_ptr) - 1
    starts = range(0, n_documents, DOCUMENTS_PER_BLOCK) or [0]
    blocks = [_entries(tokens, tokens.document_ptr[at : at + DOCUMENTS_PER_BLOCK + 1]) for at in starts]
    keys, firsts, lengths, counts = zip(*blocks, strict=True)
    first_E, length_E = np.concatenate(firsts), np.concatenate(lengths)
    _, example, phrase_E, n_documents_P = np.unique(
        np.concatenate(keys), return_index=True, return_inverse=True, return_counts=True
    )
    return Phrases(
        tokens=tokens,
        document_ptr=np.cumsum(np.concatenate((np.zeros(1, dtype=np.int64), *counts))),
        phrase_E=phrase_E.astype(np.int32),
        first_E=first_E,
        is_title_E=tokens.is_title_T[first_E],
        length_P=length_E[example],
        example_P=first_E[example],
        n_documents_P=n_documents_P.astype(np.int32),
    )


def _entries(
    tokens: Tokens, pointers: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """Key, first token and length of each phrase of some documents, once a document; and their numbers."""
    key, first, length = _runs(tokens, int(pointers[0]), int(pointers[-1]))
    document = np.searchsorted(pointers, first, side="right") - 1
    order = np.lexsort((first, key, document))  # a title comes before its abstract
    key, first, length, document = key[order], first[order], length[order], document[order]
    is_new = np.ones(len(key), dtype=np.bool_)
    is_new[1:] = (key[1:] != key[:-1]) | (document[1:] != document[:-1])
    counts = np.bincount(document[is_new], minlength=len(pointers) - 1)
    return key[is_new], first[is_new], length[is_new], counts


def _runs(
    tokens: Tokens, start: int, stop: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint8]]:
    """Key, first token and length of every run of tokens from `start` to `stop` that may be a phrase."""
    word, gap = tokens.word_T[start:stop], tokens.gap_T[start:stop]
    hyphen = gap == HYPHEN
    after_hyphen = np.concatenate(([False], hyphen[:-1])) if len(hyphen) else hyphen
    content = tokens.is_content_W[word]
    # A compound may begin and end a phrase if one of its words has content: k-means, few-shot, 21-cm.
    begins = tokens.may_begin_W[word] | (hyphen & np.append(content[1:], False))
    ends = tokens.may_end_W[word] | (after_hyphen & np.concatenate(([False], content[:-1])))
    begins &= ~after_hyphen  # no phrase cuts a compound in two
    ends &= ~hyphen & ~tokens.leans_T[start:stop]
    inside = tokens.may_stand_inside_W[word] | hyphen | after_hyphen
    weight = _scatter(tokens.normal_W[word])

    found: list[tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint8]]] = []
    at = np.flatnonzero(begins)
    key, n_spaces = np.zeros(len(at), dtype=np.uint64), np.zeros(len(at), dtype=np.int64)
    for length in range(1, MAX_TOKENS + 1):
        last = at + length - 1
        key = key * np.uint64(0x9E3779B97F4A7C15) + weight[last]
        is_phrase = ends[last]
        if length == 1:
            is_phrase = is_phrase & tokens.may_stand_alone_W[word[at]]
        firsts = at[is_phrase]
        found.append((key[is_phrase], firsts + start, np.full(len(firsts), length, dtype=np.uint8)))
        goes_on = gap[last] != BREAK  # the last token of a text is followed by a break
        goes_on &= inside[last] | (length == 1)
        n_spaces = n_spaces + (gap[last] == SPACE)
        goes_on &= n_spaces < MAX_WORDS
        at, key, n_spaces = at[goes_on], key[goes_on], n_spaces[goes_on]
    keys, firsts_, lengths = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return keys, firsts_, lengths


def _scatter(numbers: NDArray[np.int32]) -> NDArray[np.uint64]:
    """Numbers spread over 64 bits, so that sums of products of them do not collide (splitmix64)."""
    x = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def shortlist(
    phrases: Phrases, positives: NDArray[np.int64], negatives: NDArray[np.int64], n: int
) -> list[int]:
    """Numbers of the phrases that stand out in the positives, best first.

    By p log(p / q): p the share of the positives that have the phrase (in the title it counts for more), q
    the geometric mean of its shares of the negatives and of the corpus, both smoothed. It is high for
    phrases that are common here and rare elsewhere; the negatives alone would not do, as they are often
    about the same thing.
    """
    entries = phrases.entries(positives)
    found, which = np.unique(phrases.phrase_E[entries], return_inverse=True)
    n_with = np.bincount(which, minlength=len(found))
    in_title = np.bincount(which, weights=phrases.is_title_E[entries], minlength=len(found))
    n_elsewhere = _counts(phrases, negatives, found)
    p = (n_with + (TITLE_WEIGHT - 1) * in_title) / (TITLE_WEIGHT * len(positives) + 1)
    q_near = (n_elsewhere + 0.25) / (len(negatives) + 1)
    q_corpus = (phrases.n_documents_P[found] - n_with + 1) / (phrases.n_documents - len(positives) + 2)
    contrast = p * np.log(p / np.sqrt(q_near * q_corpus))
    enough = n_with >= min(2, len(positives))
    if not enough.any():
        enough = n_with >= 1
    best = np.flatnonzero(enough)
    return [int(number) for number in found[best[np.lexsort((found[best], -contrast[best]))][:n]]]


def _counts(phrases: Phrases, documents: NDArray[np.int64], found: NDArray[np.int32]) -> NDArray[np.int64]:
    """On how many of some documents each of the `found` phrases (ascending) stands."""
    others = phrases.phrase_E[phrases.entries(documents)]
    places = np.searchsorted(found, others)
    hits = places < len(found)
    hits[hits] = found[places[hits]] == others[hits]
    return np.bincount(places[hits], minlength=len(found))


@dataclass(frozen=True)
class Vocabulary:
    """The V phrases of a corpus that may become labels, by place."""

    texts: list[str]
    keys: list[tuple[int, ...]]  # words in any order: two places with the same key say the same
    readability_V: NDArray[np.float64]  # 0..1, see `readability`
    n_documents_V: NDArray[np.int32]
    place_P: NDArray[np.int32]  # of each phrase; -1 where it has none

    def shares(self, phrases: Phrases, documents: NDArray[np.int64]) -> NDArray[np.float64]:
        """The share of some documents that have each phrase, (V,)."""
        found = self.place_P[phrases.phrase_E[phrases.entries(documents)]]
        counts = np.bincount(found[found >= 0], minlength=len(self.texts))
        return np.asarray(counts / max(len(documents), 1))


def choose_vocabulary(phrases: Phrases, numbers: Iterable[int], size: int) -> Vocabulary:
    """The phrases of these numbers, and the most common ones besides, up to `size` of those."""
    common = np.argsort(-phrases.n_documents_P, kind="stable")[:size]
    common = common[phrases.n_documents_P[common] >= MIN_DOCUMENTS]
    chosen = np.unique(np.concatenate((common, np.array(sorted(numbers), dtype=np.int64))))
    place_P = np.full(len(phrases.n_documents_P), -1, dtype=np.int32)
    place_P[chosen] = np.arange(len(chosen))
    entries = np.flatnonzero(place_P[phrases.phrase_E] >= 0)
    entries = entries[np.argsort(phrases.phrase_E[entries], kind="stable")]
    starts = np.searchsorted(phrases.phrase_E[entries], np.append(chosen, chosen[-1:] + 1))
    spans = [entries[start:stop] for start, stop in itertools.pairwise(starts.tolist())]
    texts = [phrases.text(number, span[:N_READ]) for number, span in zip(chosen.tolist(), spans, strict=True)]
    words = [phrases.words(number) for number in chosen.tolist()]
    n_documents_V = phrases.n_documents_P[chosen]
    readable = np.array([readability(text) for text in texts]) * _wholeness(words, n_documents_V)
    readable *= _plainness(words, _idle_ends(phrases, chosen))
    keys = [tuple(sorted(each)) for each in words]
    for short, long in _acronyms(texts, spans, phrases.document_ptr).items():
        abbreviation = texts[short] if texts[long].endswith("s") else texts[short].removesuffix("s")
        texts[short] = f"{texts[long]} ({abbreviation})"
        keys[short], readable[short] = keys[long], readable[long]
    return Vocabulary(texts, keys, readable, n_documents_V, place_P)


def readability(text: str) -> float:
    """How much a phrase looks like a name, 0..1; what is 1 has two or three plain words.

    A single word says less, and so do an abbreviation, "and" in the middle, letters and numbers that stand
    alone ("graph G"), and more letters than a name has.
    """
    words = text.split()
    value = {1: 0.9, 2: 1.0, 3: 1.0}.get(len(words), 0.95)
    if len(words) == 1 and text.upper().rstrip("S") == text.rstrip("s"):
        value *= 0.9
    inner = {word.lower() for word in words[1:-1]} & INSIDE
    value *= 0.95 if inner == {"of"} else 0.8 if inner else 1.0
    if any(len(word) == 1 or not any(map(str.isalpha, word)) for word in words):
        value *= 0.8
    return value * min(1.0, MANY_LETTERS / len(text)) if len(text) <= MAX_LETTERS else 0.0


def _wholeness(words: Sequence[tuple[int, ...]], n_documents_V: NDArray[np.int32]) -> NDArray[np.float64]:
    """Below 1 for fragments: phrases that nearly always stand in one longer phrase."""
    places = {each: at for at, each in enumerate(words)}
    share = np.zeros(len(words))
    for at, outer in enumerate(words):
        for length in range(1, len(outer)):
            for start in range(len(outer) - length + 1):
                inner = places.get(outer[start : start + length])
                if inner is not None:
                    share[inner] = max(share[inner], n_documents_V[at] / n_documents_V[inner])
    return np.asarray(1 - FRAGMENT_COST * ((share - CONTAINED) / (1 - CONTAINED)).clip(0, 1))


def _idle_ends(phrases: Phrases, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the first and the last word of some phrases add little to the others, (V, 2)."""
    tokens, first = phrases.tokens, phrases.example_P[numbers]
    last = first + phrases.length_P[numbers] - 1
    return np.stack(
        (tokens.opens_idly_W[tokens.word_T[first]], tokens.ends_idly_W[tokens.word_T[last]]), axis=1
    )


def _plainness(words: Sequence[tuple[int, ...]], idle_V2: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Below 1 for phrases with an end that adds little to another phrase: "single scalar field"."""
    known = set(words)
    costs = [
        (len(each) > 1) and ((begins and each[1:] in known) or (ends and each[:-1] in known))
        for each, (begins, ends) in zip(words, idle_V2.tolist(), strict=True)
    ]
    return np.where(costs, 1 - ADDITION_COST, 1.0)


def _acronyms(
    texts: Sequence[str], spans: Sequence[NDArray[np.int64]], document_ptr: NDArray[np.int64]
) -> dict[int, int]:
    """Places of abbreviations, with the phrase that each stands for: its initials, in the same documents."""

    def documents(place: int) -> NDArray[np.int64]:
        return np.searchsorted(document_ptr, spans[place], side="right") - 1

    by_initials: dict[str, list[int]] = {}
    for at, text in enumerate(texts):
        words = text.replace("-", " ").split()
        if len(words) > 1:
            by_initials.setdefault("".join(word[0] for word in words).lower(), []).append(at)
    found: dict[int, int] = {}
    for at, text in enumerate(texts):
        letters = text.removesuffix("s")
        if not (1 < len(letters) <= MAX_TOKENS and letters.isupper() and letters.isalpha()):
            continue
        for long in by_initials.get(letters.lower(), ()):
            if text in texts[long]:  # "BL" does not stand for "BL Lac"
                continue
            shared = len(np.intersect1d(documents(at), documents(long)))
            if shared >= max(MIN_DOCUMENTS, SPELLED_OUT * len(spans[at])):
                best = found.setdefault(at, long)
                if len(spans[long]) > len(spans[best]):
                    found[at] = long
    return found
