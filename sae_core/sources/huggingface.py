"""A dataset of the Hugging Face hub, or a local one of the same form, row by row into a corpus.

The package `datasets` (extra `huggingface`) reads it and nothing is downloaded whole: only the columns of the
corpus, as they come. Programs that some datasets bring along are never run, and of the kinds of files that
remain only those of texts are read.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_core.corpus import Corpus, Rows, arrow_values, choose_columns, collect_corpus
from sae_core.errors import SaefariError, SourceError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

BATCH = 8192  # rows that are in memory
KINDS = ("arrow", "csv", "json", "parquet", "text", "xml")  # of files that hold texts
SUFFIXES = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".json": "json",
            ".ndjson": "json", ".arrow": "arrow"}  # fmt: skip
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def read_dataset(
    dataset: str,
    *,
    config: str = "",
    split: str = "",
    revision: str = "",
    mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
    folder: Path | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Corpus:
    """The corpus of one split of a dataset: "owner/name" on the hub, or a path.

    A path is a folder that `save_to_disk` wrote, a folder of files as they lie on the hub, or one such file.
    `split` may be left out where there is one, or one called train. `mapping`, `limit` and `folder` are those
    of `load_corpus`; `progress` is told how many rows have come.

    Raises SourceError for a dataset that is not there, may not be read, or whose source does not answer, and
    CorpusError for columns that cannot be found, or no usable document.
    """
    with _explained(dataset):
        chosen = _split_of(dataset, _open(dataset, config, revision), split)
        rows = _rows(dataset, chosen, mapping or {}, progress)
        return collect_corpus(rows, dataset, limit=limit, folder=folder)


@dataclass(frozen=True)
class _Split:
    """One split: the package's table, and its files where these are parquet."""

    table: Any
    files: list[str] = field(default_factory=list)


def _open(dataset: str, config: str, revision: str) -> dict[str, _Split]:
    """The splits of a dataset, by name; opened, not read."""
    datasets = _package()
    path = Path(dataset).expanduser()
    if not path.exists():
        if path.is_absolute() or dataset.startswith((".", "~")) or not _ON_HUB.fullmatch(dataset):
            raise SourceError(f"There is no file or folder {dataset}.", remedy="Check the path.")
        builder = datasets.load_dataset_builder(dataset, config or None, revision=revision or None)
        return _streaming(dataset, builder)
    if revision:
        raise SourceError(f"{dataset} is here, and has no revisions.", remedy="Leave out --revision.")
    if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
        saved = datasets.load_from_disk(str(path))
        tables = saved if isinstance(saved, dict) else {str(saved.split or "train"): saved}
        return {name: _Split(table) for name, table in tables.items()}
    if path.is_dir():
        return _streaming(dataset, datasets.load_dataset_builder(str(path), config or None))
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise SourceError(f"{dataset} is no file of a dataset.", remedy=f"Give one that ends in {known}.")
    options = {"sep": "\t"} if suffix == ".tsv" else {}
    files = {"train": str(path)}
    return _streaming(dataset, datasets.load_dataset_builder(SUFFIXES[suffix], data_files=files, **options))


def _streaming(dataset: str, builder: Any) -> dict[str, _Split]:
    kind = builder.name
    if kind not in KINDS:
        what = f"The files of {dataset} are of the kind {kind}, in which there is more than texts."
        raise SourceError(what, remedy="Take a dataset of parquet, CSV or JSONL files.")
    files = builder.config.data_files if kind == "parquet" else {}
    tables = builder.as_streaming_dataset()
    return {name: _Split(table, list(files.get(name, ()))) for name, table in tables.items()}


_ON_HUB = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?")


def _package() -> Any:
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise SourceError(
            "Reading a dataset of Hugging Face needs the package datasets.",
            remedy="Install it: pip install -c constraints.txt '.[huggingface]'.",
        ) from error
    datasets.disable_progress_bars()
    return datasets


def _split_of(dataset: str, splits: Mapping[str, _Split], split: str) -> _Split:
    """The split of that name; else the only one, or train."""
    chosen = split or (next(iter(splits)) if len(splits) == 1 else "train")
    if chosen not in splits:
        what = f"{dataset} has no split {split}." if split else f"{dataset} has several splits."
        remedy = f"Name one with --split: {', '.join(splits)}."
        if "[" in split:
            remedy += " For its first rows use --max."
        raise SourceError(what, remedy=remedy)
    return splits[chosen]


def _rows(
    dataset: str, split: _Split, mapping: Mapping[str, str], progress: Callable[[int, int], None]
) -> Rows:
    table = split.table
    names = list(table.column_names or next(iter(table.take(1)), ()))  # JSONL says them with its first row
    columns = choose_columns(names, mapping, dataset)
    chosen = sorted(set(columns.values()))
    if split.files:
        batches = _of_parquet(split.files, chosen)
    else:
        batches = table.select_columns(chosen).with_format("arrow").iter(batch_size=BATCH)
    total, done = _n_rows(table), 0
    for batch in batches:
        values = [_named(arrow_values(batch[name]), table.features, name) for name in columns.values()]
        for row in zip(*values, strict=True):
            yield dict(zip(columns, row, strict=True))
        done += len(batch)
        progress(done, total)


def _of_parquet(files: Iterable[str], columns: list[str]) -> Iterator[Any]:
    """Only these columns, batch by batch: the package reads all of them, as far ahead as it can."""
    import fsspec
    import pyarrow.parquet as pq

    for name in files:
        with fsspec.open(name, "rb") as raw, pq.ParquetFile(raw) as file:
            yield from file.iter_batches(BATCH, columns=columns, use_threads=False)


def _n_rows(table: Any) -> int:
    """How many rows a split says that it has; 0 where it does not."""
    splits, name = table.info.splits or {}, str(table.split)
    return int(splits[name].num_examples or 0) if name in splits else 0


def _named(values: list[Any], features: Any, name: str) -> list[Any]:
    """Classes by their names, where a dataset has them as numbers; in a list too."""
    feature = (features or {}).get(name)
    names = getattr(getattr(feature, "feature", feature), "names", None)
    if not names:
        return values

    def text(value: Any) -> Any:
        if isinstance(value, list):
            return [text(each) for each in value]
        return names[value] if isinstance(value, int) and 0 <= value < len(names) else None

    return [text(value) for value in values]


# --- what can go wrong ---------------------------------------------------------------------------


@contextmanager
def _explained(dataset: str) -> Iterator[None]:
    """What the package raises, in sentences. It lets through whatever the packages below it raise."""
    try:
        yield
    except SaefariError:
        raise
    except Exception as error:
        raise _said(dataset, error) from error


def _said(dataset: str, error: Exception) -> SourceError:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    message = str(error)
    if "gated" in message or "GatedRepoError" in kinds:
        what = f"{dataset} is gated: its owners want to know who reads it."
        return SourceError(what, remedy=f"Ask for access on its page, then {LOG_IN}.")
    if "scripts are no longer supported" in message:
        what = (
            f"{dataset} is a program that makes its rows, and would have to be run here; that is never done."
        )
        return SourceError(
            what, remedy="Its rows may be there as files: try --revision refs/convert/parquet."
        )
    if kinds & {"DataFilesNotFoundError", "EmptyDatasetError"}:
        return SourceError(
            f"{dataset} has no files of rows.", remedy="Name another dataset, or another folder."
        )
    if kinds & {"DatasetNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError"}:
        what = f"There is no dataset {dataset} on the hub, or it is private."
        return SourceError(what, remedy=f"Check the name, as owner/name; for a private one {LOG_IN}.")
    if "onfig" in message and (found := re.search(r"\[[^\]]*\]", message)):
        what = f"{dataset} has several parts."
        return SourceError(what, remedy=f"Name one with --config: {found.group()[1:-1]}.")
    if kinds & {"ConnectionError", "HTTPError", "TransportError", "OfflineModeIsEnabled", "TimeoutError"}:
        what = f"The hub does not answer as it should: {first_line(error)}."
        return SourceError(what, remedy="Check the network, and try again later; or give the path of a copy.")
    return SourceError(f"{dataset} could not be read: {first_line(error)}.", remedy="Check its files.")
