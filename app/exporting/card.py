"""The data card of a dump: what is in the folder, how far to trust it, and how to load it."""

from __future__ import annotations

import json
from statistics import median
from typing import TYPE_CHECKING

from app.labels import is_labelled
from sae_core.errors import tidy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.exporting.dump import Written
    from sae_core.explorer import Explorer, FeatureSet

# Runs in the folder of the dump; a test runs it.
SNIPPET = """\
import pandas as pd
from scipy.sparse import csr_array

sae = "saes/{sae}"
documents = pd.read_parquet("documents.parquet").set_index("position")
features = pd.read_parquet(f"{{sae}}/features.parquet").set_index("latent")
active = pd.read_parquet(f"{{sae}}/activations.parquet")

best = features["quality"].idxmax()
strongest = active[active["latent"] == best].nlargest(5, "value")
print(features.loc[best, "label"], features.loc[best, "auc"], "n =", features.loc[best, "n_scored"])
print(strongest.join(documents["title"], on="position"))

codes = csr_array(  # documents x features
    (active["value"], (active["position"], active["latent"])), shape=(len(documents), len(features))
)
"""
WEIGHTS = """\
from safetensors.numpy import load_file

weights = load_file("saes/{sae}/sae.safetensors")
reconstructed = codes @ weights["W_dec_ND"] + weights["b_dec_D"]  # of the embeddings, one row a document
"""
SQL = """\
SELECT label, count(*) AS n, avg(value) FROM 'saes/{sae}/activations.parquet'
JOIN 'saes/{sae}/features.parquet' USING (latent) GROUP BY label ORDER BY n DESC LIMIT 10;
"""


def write_card(explorer: Explorer, chosen: Sequence[FeatureSet], written: Sequence[Written]) -> str:
    """The card, in Markdown, with a head by which the `datasets` library finds the tables."""
    parts = [
        _head(explorer, written),
        _summary(explorer, chosen),
        _scores(chosen),
        _loading(chosen),
        _tables(written, chosen),
        _origin(explorer),
        _licence(),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _head(explorer: Explorer, written: Sequence[Written]) -> str:
    lines = ["---", f"pretty_name: {json.dumps(tidy(explorer.title))}", "configs:"]
    for each in written:
        name = each.path.removesuffix(".parquet").removeprefix("saes/").replace("/", ".")
        lines += [f"- config_name: {name}", f"  data_files: {each.path}"]
    return "\n".join([*lines, "---"])


def _summary(explorer: Explorer, chosen: Sequence[FeatureSet]) -> str:
    embedder = explorer.manifest["embedder"].get("name") or "embeddings made elsewhere"
    n_features = " and ".join(f"{len(space.labels):,}" for space in chosen)
    return f"""\
# {_plain(explorer.title)}: what its embedding space has learned

{explorer.n_documents:,} texts, embedded with {_plain(embedder)} (width {explorer.width:,}) and taken apart
by {len(chosen)} sparse autoencoder{"s" if len(chosen) > 1 else ""} into {n_features} features. Here are
the texts, which features are active on them and how strongly, what the features are called and how far
that can be trusted, the families they form, and the weights. Written by `saefari export`; `dump.json`
has checksums and types of all files.
"""


def _scores(chosen: Sequence[FeatureSet]) -> str:
    lines = ["## Scores", "", "| | " + " | ".join(space.name for space in chosen) + " |"]
    lines.append("|---|" + "---|" * len(chosen))
    rows = [_numbers(space) for space in chosen]
    lines += [f"| {name} | " + " | ".join(row[name] for row in rows) + " |" for name in rows[0]]
    return "\n".join(
        [
            *lines,
            "",
            """\
FVU is the share of the embeddings' variance that features do not explain; 0 is best. A label's AUC says
how well a predictor that reads only the label tells the feature's documents from others: 0.5 is chance.
It was measured on documents that neither made nor chose the label; `scores.parquet` has every
predictor, with intervals and counts. Labels are made automatically and can be wrong: look at the score,
then at the documents.""",
        ]
    )


def _numbers(space: FeatureSet) -> dict[str, str]:
    metrics = space.metrics
    labels = [label for label in space.labels if is_labelled(label)]
    scored = [label.score for label in labels if label.score]
    sizes = sorted(score.n_positives + score.n_negatives for score in scored)
    asked = f"n = {sizes[0]:,} to {sizes[-1]:,} documents each" if sizes else "none was scored"
    return {
        "features": f"{len(space.labels):,}",
        "active per document (k)": f"{space.sae.k}",
        "FVU, training documents": f"{metrics['fvu_train']:.3f}",
        "FVU, held-out documents": f"{metrics['fvu_heldout']:.3f} (n = {metrics['n_heldout']:,})",
        "active per document, mean (L0)": f"{metrics['l0']:.1f}",
        "dead features": f"{int((space.codes.counts() == 0).sum()):,}",
        "labelled features": f"{len(labels):,}",
        "median AUC of their labels": f"{median(s.auc.value for s in scored):.2f} ({asked})"
        if scored
        else "–",
        "families": f"{len(space.families):,}",
    }


def _loading(chosen: Sequence[FeatureSet]) -> str:
    name = chosen[0].name
    return f"""\
## Loading

In this folder, with pandas and scipy:

```python
{SNIPPET.format(sae=name).rstrip()}
```

The weights, with safetensors. Rows of `W_dec_ND` are the directions of the features, of length 1:

```python
{WEIGHTS.format(sae=name).rstrip()}
```

In SQL, with DuckDB:

```sql
{SQL.format(sae=name).rstrip()}
```"""


def _tables(written: Sequence[Written], chosen: Sequence[FeatureSet]) -> str:
    """Each table once: those of several SAEs have the same columns."""
    first = f"saes/{chosen[0].name}/"
    lines = ["## Tables", ""]
    if len(chosen) > 1:
        lines += [
            "The folders in `saes/` hold the same tables, each of its SAE. Rows are counted for the first.",
            "",
        ]
    lines.append("Numbers of features belong to one SAE. What is not there is empty (null).")
    for each in written:
        if each.path.startswith("saes/") and not each.path.startswith(first):
            continue
        shown = each.path.replace(first, "saes/*/")
        size = f"{each.n_rows:,} rows, {each.size / 2**20:,.1f} MiB"
        lines += [
            "",
            f"### `{shown}`",
            "",
            f"{each.table.meaning} {size}.",
            "",
            "| column | type | meaning |",
        ]
        lines.append("|---|---|---|")
        lines += [f"| `{c.name}` | {c.kind} | {c.meaning} |" for c in each.table.columns]
    lines += ["", "### Other files", ""]
    lines.append(
        "`saes/*/sae.safetensors`: the weights. `saes/*/training.json`: how it was trained, and its errors."
    )
    return "\n".join(lines)


def _origin(explorer: Explorer) -> str:
    manifest = explorer.manifest
    versions = ", ".join(f"{name} {number}" for name, number in manifest["versions"].items())
    return f"""\
## Origin

Collection {explorer.name}, generation {explorer.generation}, built {manifest["built"]} with
{versions}. The texts have the fingerprint sha256 {manifest["corpus"]["fingerprint"]}."""


def _licence() -> str:
    return """\
## Licence

None is given here. The texts belong to whoever wrote them: before you pass this folder on, find out
what their source allows, leave out what it does not (titles and abstracts are in `documents.parquet`),
and write your terms in this place."""


def _plain(text: str) -> str:
    """A text from outside as a line of Markdown that is only text."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in tidy(text))
