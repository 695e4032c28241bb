"""The scorecard of a collection as a text for people: `report.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sae_core.explorer import FeatureSet


def report_text(manifest: dict[str, Any], spaces: Sequence[FeatureSet]) -> str:
    """Markdown: documents, every SAE with its baselines, labels, families, and where the time went."""
    embedder = manifest["embedder"].get("name", "none; the embeddings came from a file")
    lines = [
        f"# {manifest['title']}",
        "",
        f"{manifest['n_documents']:,} documents, {manifest['width']} dimensions. Encoder: {embedder}.",
        "",
        _rejected(manifest["corpus"]["rejected"]),
        *[f"{n:,} rows: {repair}." for repair, n in manifest["corpus"]["repaired"].items()],
        "",
    ]
    for space in spaces:
        lines += _sae_section(space)
    lines += ["## Where the time went", "", "| stage | seconds |", "|---|---|"]
    lines += [f"| {name} | {seconds:.1f} |" for name, seconds in manifest["seconds"].items()]
    lines += ["", "Made with " + ", ".join(f"{k} {v}" for k, v in manifest["versions"].items()) + "."]
    return "\n".join(lines) + "\n"


def _rejected(counts: dict[str, int]) -> str:
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts.items())
    return f"Rejected rows: {reasons} (see `rejected.jsonl`)." if counts else "No row was rejected."


def _sae_section(space: FeatureSet) -> list[str]:
    scores = space.metrics
    measured = [label.score for label in space.labels if label.score is not None]
    n_alive = scores["n_latents"] - scores["n_dead"]
    typical = f"median score {sorted(measured)[len(measured) // 2]:.2f} AUC" if measured else "none scored"
    rows = [
        ("held-out FVU", f"{scores['fvu_heldout']:.3f} on {scores['n_heldout']:,} documents"),
        ("training FVU", f"{scores['fvu_train']:.3f} on {scores['n_train']:,} documents"),
        ("L0, held-out", f"{scores['l0']:.1f} of k = {scores['k']}"),
        ("dead", f"{scores['n_dead']:,} of {scores['n_latents']:,} latents"),
        ("rare (density < 1e-4)", f"{scores['n_rare']:,}"),
        ("labels scored", f"{len(measured):,} of {n_alive:,} living features, {typical}"),
        ("families", f"{len(space.families):,}"),
    ]
    baselines = [
        (f"baseline: {entry['name']}", f"{entry['fvu_heldout']:.3f} held-out FVU; {entry['remark']}")
        for entry in scores["baselines"]
    ]
    table = [f"| {name} | {value} |" for name, value in rows + baselines]
    return [f"## {space.name}", "", "| measure | value |", "|---|---|", *table, ""]
