"""How much of retrieval is kept: by steered search that is left alone, by reconstructions, by sparse codes.

Every query of a judged set ranks all documents; nDCG@10 (as `metrics.ndcg_of` defines it) and recall@100 are
means over queries. The first row is plain search among the embeddings; all others are set against it query by
query. Sparse codes with IDF are an inverted index of features: each activation times log(M / n_i), on both
sides (the idea: arXiv 2506.00041). PCA, fitted to the documents that the SAE was trained on, is the best
linear code of as many numbers.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sae_core.codes import encode_codes
from sae_core.evaluation.model import Figure, Row, Table, draws, mean
from sae_core.files import kept
from sae_core.index import top
from sae_core.labels.predictors import WordPredictor
from sae_core.labels.words import tokenise
from sae_core.metrics import ndcg_of, reconstruct
from sae_core.steer import Moves, make_edit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sae_core.corpus import Document
    from sae_core.evaluation.judged import Judged
    from sae_core.explorer import Explorer, FeatureSet
    from sae_core.fit import Console

    Scores = Callable[[int], NDArray[np.float32]]  # of all documents for a query

NDCG_AT, RECALL_AT = 10, 100
PLAIN, UNTOUCHED = "embeddings", "steered search, nothing moved"


class Sought(NamedTuple):
    """A judged set as vectors, and the SAE that is asked."""

    explorer: Explorer
    space: FeatureSet
    judged: Judged
    queries_QD: NDArray[np.float32]
    documents_MD: NDArray[np.float32]
    documents: Sequence[Document]
    train_MD: NDArray[np.float32]  # what the SAE was trained on
    is_own: bool  # the documents are those of the collection


def evaluate_retrieval(
    sought: Sought, console: Console, parts: Path, key: str
) -> tuple[list[Table], list[str]]:
    """The table, and sentences on what was found identical. Each method is kept in `parts` when done."""
    found: dict[str, dict[str, list[float]]] = {}
    identical: dict[str, float] = kept(
        parts / "identity.json", key, lambda: _staged(console, "Nothing moved", partial(_identity, sought))
    )
    for at, (name, prepare) in enumerate(_methods(sought).items()):
        measure = partial(_measure, sought, prepare)
        found[name] = kept(parts / f"method-{at}.json", key, partial(_staged, console, name, measure))
    return [_table(found)], _sentences(sought, identical)


def _staged(console: Console, name: str, make: Callable[[Any], Any]) -> Any:
    with console.stage(name) as report:
        return make(report)


# --- rankings -------------------------------------------------------------------------------------


def _methods(sought: Sought) -> dict[str, Callable[[], Scores]]:
    """By name, what prepares the scores of a query."""
    k = sought.space.sae.k
    return {
        PLAIN: partial(_products, lambda x: x, lambda y: y, sought),
        UNTOUCHED: partial(_untouched, sought),
        "reconstructions, both sides": partial(
            _products, partial(_rebuilt, sought), partial(_rebuilt, sought), sought
        ),
        "reconstructed query (as the paper's app)": partial(
            _products, partial(_rebuilt, sought), lambda y: y, sought
        ),
        "sparse codes, inner product": partial(_codes, sought, idf=False, unit=False),
        "sparse codes with IDF, inner product": partial(_codes, sought, idf=True, unit=False),
        "sparse codes with IDF, cosine": partial(_codes, sought, idf=True, unit=True),
        f"PCA, {k} numbers": partial(_pca, sought, k),
        f"PCA, {2 * k} numbers": partial(_pca, sought, 2 * k),
        "BM25 (words, no embeddings)": partial(_words, sought),
    }


def _products(
    of_query: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    of_documents: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    sought: Sought,
) -> Scores:
    queries_QD, documents_MD = of_query(sought.queries_QD), of_documents(sought.documents_MD)
    return lambda at: documents_MD @ queries_QD[at]


def _rebuilt(sought: Sought, x_MD: NDArray[np.float32]) -> NDArray[np.float32]:
    return _unit(reconstruct(sought.space.sae, x_MD))


def _untouched(sought: Sought) -> Scores:
    """Through the search of the collection where the documents are its own, else through the edit alone."""
    if not sought.is_own:
        return lambda at: sought.documents_MD @ _left_alone(sought, sought.queries_QD[at])

    def scores(at: int) -> NDArray[np.float32]:
        answer = sought.explorer.search(
            sought.space.name, sought.queries_QD[at], _all_own(sought, sought.queries_QD[at]), limit=RECALL_AT
        )
        found_M = np.full(sought.explorer.n_documents, -np.inf, dtype=np.float32)
        found_M[answer.hits.positions] = answer.hits.scores
        return found_M

    return scores


def _all_own(sought: Sought, x_D: NDArray[np.float32]) -> Moves:
    """Every slider where it opens: at the query's own activation."""
    return Moves(strengths=dict(sought.explorer.code(sought.space.name, x_D).own))


def _left_alone(sought: Sought, x_D: NDArray[np.float32]) -> NDArray[np.float32]:
    own = sought.explorer.code(sought.space.name, x_D).own
    return make_edit(x_D, Moves(strengths=dict(own)), own, sought.space.sae.directions_ND).steered_D


def _codes(sought: Sought, *, idf: bool, unit: bool) -> Scores:
    sae = sought.space.sae
    documents = encode_codes(sae, sought.documents_MD)
    queries_QN, documents_MN = encode_codes(sae, sought.queries_QD).matrix(), documents.matrix()
    if idf:
        weights_N = np.log(documents.n_documents / np.maximum(documents.counts(), 1)).astype(np.float32)
        queries_QN = queries_QN.multiply(weights_N[None, :]).tocsr()
        documents_MN = documents_MN.multiply(weights_N[None, :]).tocsr()
    lengths_M = np.sqrt(np.asarray(documents_MN.multiply(documents_MN).sum(axis=1)).ravel())
    divisor_M = np.maximum(lengths_M, 1e-12) if unit else np.ones(len(lengths_M))
    return lambda at: np.asarray(
        (documents_MN @ queries_QN[at].T).toarray().ravel() / divisor_M, dtype=np.float32
    )


def _pca(sought: Sought, n: int) -> Scores:
    mean_D = sought.train_MD.mean(axis=0)
    centred_MD = sought.train_MD - mean_D
    _, vectors = np.linalg.eigh(centred_MD.T @ centred_MD)
    basis = vectors[:, ::-1][:, :n].astype(np.float32)

    def kept_part(x_MD: NDArray[np.float32]) -> NDArray[np.float32]:
        return _unit((x_MD - mean_D) @ basis @ basis.T + mean_D)

    return _products(kept_part, kept_part, sought)


def _words(sought: Sought) -> Scores:
    predictor, everything = WordPredictor(tokenise(sought.documents)), np.arange(len(sought.documents))
    return lambda at: predictor.compare([sought.judged.queries[at]], everything)[0]


def _unit(x_MD: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(x_MD / np.maximum(np.linalg.norm(x_MD, axis=1, keepdims=True), 1e-12), dtype=np.float32)


# --- measures -------------------------------------------------------------------------------------


def _measure(sought: Sought, prepare: Callable[[], Scores], report: Any) -> dict[str, list[float]]:
    scores = prepare()
    found: dict[str, list[float]] = {"ndcg": [], "recall": []}
    for at, gains in enumerate(sought.judged.relevant):
        report(at, len(sought.judged.relevant), "")
        best = top(scores(at), RECALL_AT).positions
        found["ndcg"].append(ndcg_of(best, gains, NDCG_AT) or 0.0)
        found["recall"].append(recall_of(best, gains))
    return found


def recall_of(best_K: NDArray[np.int64], gains: dict[int, float]) -> float:
    """The share of the relevant documents that are among the best."""
    relevant = [row for row, grade in gains.items() if grade > 0]
    return float(np.isin(relevant, best_K).mean())


def _identity(sought: Sought, report: Any) -> dict[str, float]:
    """For how many queries a search with nothing moved is the plain one, and how far scores were apart."""
    explorer, name = sought.explorer, sought.space.name
    found = {"nothing": 0.0, "own": 0.0, "apart": 0.0, "n": float(len(sought.queries_QD))}
    for at, x_D in enumerate(sought.queries_QD):
        report(at, len(sought.queries_QD), "")
        plain = explorer.index.search(x_D, RECALL_AT)
        for how, moves in (("nothing", Moves()), ("own", _all_own(sought, x_D))):
            hits = explorer.search(name, x_D, moves, limit=RECALL_AT).hits
            found[how] += np.array_equal(hits.positions, plain.positions)
            found["apart"] = max(found["apart"], float(np.abs(hits.scores - plain.scores).max()))
    return found


def _sentences(sought: Sought, identical: dict[str, float]) -> list[str]:
    n, where = int(identical["n"]), sought.explorer.name
    apart = "the same scores" if identical["apart"] == 0 else f"scores within {identical['apart']:.0e}"
    same = (
        f"Untouched steered search gave the same {RECALL_AT} documents in the same order, with {apart}, as "
        f"plain search for {int(identical['nothing']):,} of {n:,} queries with nothing moved, and for "
        f"{int(identical['own']):,} of {n:,} with every slider at the query's own activation (documents of "
        f"{where})."
    )
    found = [same]
    if sought.judged.n_unknown:
        found.append(f"{sought.judged.n_unknown:,} judgements are of documents that are not there.")
    return found


def _table(found: dict[str, dict[str, list[float]]]) -> Table:
    plain = np.array(found[PLAIN]["ndcg"])
    rows = []
    for name, values in found.items():
        each = np.array(values["ndcg"])
        figures = [mean(each), mean(values["recall"]), mean(each - plain), _kept(each, plain)]
        rows.append(Row(name, figures if name != PLAIN else [*figures[:2], None, None], len(each)))
    columns = [f"nDCG@{NDCG_AT}", f"recall@{RECALL_AT}", "nDCG less plain", "nDCG kept"]
    return Table("Retrieval", columns, rows, "Intervals: 1,000 draws of the queries, the same for all rows.")


def _kept(each: NDArray[np.float64], plain: NDArray[np.float64]) -> Figure | None:
    """The quotient of the means."""
    if plain.mean() <= 0:
        return None
    weights = draws(len(plain), 0)
    drawn = (weights @ each) / np.maximum(weights @ plain, 1e-12)
    low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
    return Figure(float(each.mean() / plain.mean()), low, high, "share")


def judged_vectors(texts: Sequence[str], explorer: Explorer) -> NDArray[np.float32]:
    """Unit rows by the collection's encoder, one for each text."""
    return np.stack([explorer.embed(text) for text in texts])
