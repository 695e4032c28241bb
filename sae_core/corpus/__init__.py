"""Documents in: parquet, CSV and JSONL become checked, cleaned, de-duplicated `Document`s.

Nothing is dropped in silence: a row that cannot be used is kept in `Corpus.rejected` with its reason, and a
row that was used after a repair is counted in `Corpus.repaired`. Memory does not grow with the file: a
row is read (`rows`), cleaned (`document`, `values`, `text`), compared with those before (`doubles`) and put
on disk (`lazy`) before the next one is.
"""

from sae_core.corpus.columns import USUAL_NAMES, choose_columns, read_mapping
from sae_core.corpus.document import Document, content_id, derive_title, normalise_title, read_document
from sae_core.corpus.doubles import Doubles
from sae_core.corpus.lazy import Lazy
from sae_core.corpus.loading import (
    Corpus,
    collect_corpus,
    known_by,
    load_corpus,
    save_corpus,
    write_rejected,
)
from sae_core.corpus.rows import Rows, arrow_values, read_rows
from sae_core.corpus.text import MAX_ABSTRACT, clean_line, clean_text
from sae_core.corpus.values import clean_id, find_doi, parse_year

__all__ = [
    "MAX_ABSTRACT", "USUAL_NAMES", "Corpus", "Document", "Doubles", "Lazy", "Rows", "arrow_values",
    "choose_columns", "clean_id", "clean_line", "clean_text", "collect_corpus", "content_id",
    "derive_title", "find_doi", "known_by", "load_corpus", "normalise_title", "parse_year", "read_document",
    "read_mapping", "read_rows", "save_corpus", "write_rejected",
]  # fmt: skip
