"""Trains a small SAE, searches, steers and prints: in a minute, on two cores, without a server.

python examples/steer.py                               # docstrings of packages that are installed here
python examples/steer.py papers.parquet dust galaxies  # a file of texts, a query, what to steer it to
"""

import sys
from pathlib import Path

from app.catalog import write_catalogue
from app.console import Console
from sae_core import Collection
from sae_core.build import BuildConfig, build
from sae_core.corpus import Corpus, load_corpus
from sae_core.sources.docstrings import harvest

DEFAULTS = ("", "shortest path", "matrix")
HOME = Path("steer-home")  # what is embedded and built stays here: a second run is quicker

file, query, words = (*sys.argv[1:], *DEFAULTS[len(sys.argv) - 1 :])
packages = ("numpy", "scipy", "sklearn", "networkx")
corpus = load_corpus(file, limit=1000) if file else Corpus(harvest(1000, only=packages), [])

# Train: 256 latents, of which 8 are active on a document. What they mean is described, grouped and named.
config = BuildConfig("example", "Example", latents=(256,), ks=(8,), steps=500, stability=False)
made = build(corpus, config, HOME, Console(), write_catalogue)
print(f"Unexplained variance of held-out documents: {made.saes[0]['metrics']['fvu_heldout']:.2f}")

# Search: with nothing moved this is plain semantic search.
texts = Collection.open(HOME / "collections" / "example")
plain = texts.search(query, n=5)
print(f"\n{plain}\n\nFeatures of the query:")
for firing in plain.features[:5]:
    print(f"  {firing}")

# Steer: the query's first feature is taken out of it, and another one raised.
away, towards = plain.features[0].feature, (texts.features(words) or texts.features())[0]
steered = texts.search(query, {towards.latent: 0.4}, ignore=away.latent, n=5)
print(f"\n{steered}\n\nWhy the first one:\n{steered.why(1)}")
print(f"\n{texts.feature(towards.latent)}")
