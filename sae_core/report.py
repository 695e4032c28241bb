"""Numbers as texts for people: scorecards and claims of a collection (`report.md`), a grid (`grid.md`)."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sae_core.dictionaries import NAMES as BASELINES
from sae_core.drift import parse_drift
from sae_core.evaluation import stored_evaluations
from sae_core.labels import left_out
from sae_core.powerlaw import GOOD_R2, PAPER, Fit, Term, paper_laws

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sae_core.claims import Claim, ClaimsReport, Measure
    from sae_core.drift import Drift
    from sae_core.evaluation import Evaluation, Figure, Table
    from sae_core.explorer import FeatureSet
    from sae_core.grid import GridResult, Member

SCHEMA = 1  # of grid.json
JOINT_FORM = (
    "log FVU = a + alpha log n + beta log k (+ gamma log k log n); after ± the standard error. With gamma, "
    "alpha and beta are the exponents at k = 1 and n = 1, far from every point."
)
PAPER_REMARK = (
    "The paper's numbers are training errors on text-embedding-3-small (1,536 dimensions), read off its "
    "figures and fitted in the same way. Expect their sign and order elsewhere, not their values."
)
MEMORY_REMARK = "Held-out error need not fall with n: with few documents, more latents memorise."
EXPONENT_HEADER = ("k", "held-out", "R²", "train", "R²", *(f"paper, {name}" for name in PAPER))
JOINT_HEADER = ("errors", "alpha (n)", "beta (k)", "gamma", "R²", "SAEs")
DRIFTS = {"all": "added since training", "latest": "added last"}
EXACT = 2  # points that every line of one k fits


def report_text(manifest: dict[str, Any], spaces: Sequence[FeatureSet]) -> str:
    """Markdown: documents, every SAE with its baselines, labels, families, and where the time went."""
    embedder = manifest["embedder"].get("name", "none; the embeddings came from a file")
    if "name" not in manifest["embedder"] and "truncate" in manifest["embedder"]:
        embedder += f", of which the first {manifest['embedder']['truncate']} numbers were kept"
    if manifest.get("normalised"):
        embedder += "; rows of the file were scaled to unit length"
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
        for evaluation in stored_evaluations(space.evaluation):
            lines += [evaluation_text(evaluation), ""]
    lines += _changes_section(manifest)
    lines += ["## Where the time went", "", "| stage | seconds |", "|---|---|"]
    lines += [f"| {name} | {seconds:.1f} |" for name, seconds in manifest["seconds"].items()]
    lines += ["", "Made with " + ", ".join(f"{k} {v}" for k, v in manifest["versions"].items()) + "."]
    return "\n".join(lines) + "\n"


def _rejected(counts: dict[str, int]) -> str:
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts.items())
    return f"Rejected rows: {reasons} (see `rejected.jsonl`)." if counts else "No row was rejected."


def _sae_section(space: FeatureSet) -> list[str]:
    scores = space.metrics
    measured = [label.score.auc.value for label in space.labels if label.score]
    n_alive = scores["n_latents"] - scores["n_dead"]
    typical = f"median score {sorted(measured)[len(measured) // 2]:.2f} AUC" if measured else "none scored"
    origin = space.config.get("origin")
    rows = [
        *([("made elsewhere", f"{origin}; what it was trained on is not known here")] if origin else []),
        ("held-out FVU", f"{scores['fvu_heldout']:.3f} on {scores['n_heldout']:,} documents"),
        ("training FVU", f"{scores['fvu_train']:.3f} on {scores['n_train']:,} documents"),
        ("L0, held-out", f"{scores['l0']:.1f} of k = {scores['k']}"),
        ("dead", f"{scores['n_dead']:,} of {scores['n_latents']:,} latents"),
        ("rare (density < 1e-4)", f"{scores['n_rare']:,}"),
        *_measured(scores),
        ("labels scored", f"{len(measured):,} of {n_alive:,} living features, {typical}"),
        *[(f"label or score left out: {why}", f"{n:,}") for why, n in left_out(space.labels).items()],
        ("families", f"{len(space.families):,}"),
    ]
    baselines = [
        (f"baseline: {entry['name']}", f"{entry['fvu_heldout']:.3f} held-out FVU; {entry['remark']}")
        for entry in scores["baselines"]
    ]
    table = [f"| {name} | {value} |" for name, value in rows + baselines]
    return [f"## {space.name}", "", "| measure | value |", "|---|---|", *table, ""]


def _measured(scores: dict[str, Any]) -> list[tuple[str, str]]:
    """What not every artifact says."""
    rows = []
    density, cosines = scores.get("density", {}), scores.get("encoder_decoder", {})
    if density.get("mean") is not None:
        rows.append(("mean log10 density", f"{density['mean']:.2f}, of the living"))
    if cosines.get("mean") is not None:
        rows.append(("encoder-decoder cosine", f"{cosines['mean']:.3f}, mean of the living"))
    stability = scores.get("stability", {})
    if stability.get("share") is not None:
        found = "{share:.1%} of {n:,} features ({low:.1%} to {high:.1%}) found from another seed".format(
            **stability
        )
        rows.append(("stability", f"{found}; random directions: {stability['random_share']:.1%}"))
    rows += [
        (f"documents {DRIFTS[which]}", drift_words(drift))
        for which, drift in parse_drift(scores.get("drift")).items()
    ]
    retrieval = scores.get("retrieval", {})
    if retrieval.get("kept") is not None:
        found = "{kept:.1%} of nDCG@{k}, on {n_queries:,} queries".format(**retrieval)
        rows.append(("retrieval kept", found))
    return rows


def drift_words(drift: Drift) -> str:
    """How documents that were added differ from held-out ones, as a sentence."""
    times = f"{drift.times.value:.2f} times ({drift.times.low:.2f} to {drift.times.high:.2f})"
    return (
        f"FVU {drift.fvu.value:.3f} on {drift.n:,}, {drift.fvu_heldout.value:.3f} on {drift.n_heldout:,} "
        f"held out: {times}; {drift.silent.value:.1%} of {drift.n_living:,} features silent on them, "
        f"{drift.silent_expected:.1%} on as many older ones; {drift.unseen.value:.1%} of them with a feature "
        f"that no training document has, {drift.unseen_heldout.value:.1%} of those held out"
    )


def _changes_section(manifest: dict[str, Any]) -> list[str]:
    """When documents came and went."""
    rows = [
        (each["made"][:10], f"{each['n_new']:,}", f"{each['n_replaced']:,}", f"{each['n_removed']:,}",
         f"{each['n_documents']:,}")
        for each in manifest.get("changes", [])
    ]  # fmt: skip
    header = ("day", "new", "with another text", "removed", "documents then")
    return ["## Documents that came and went", "", *_table(header, rows), ""] if rows else []


# --- claims ---------------------------------------------------------------------------------------

KINDS = {"number": "{:.3f}", "share": "{:.1%}", "count": "{:,.0f}", "ratio": "{:.2f}"}


def claims_text(report: ClaimsReport) -> str:
    """Markdown for people: a table of verdicts, then each claim with its numbers and its caveat."""
    lines = [
        f"# The claims of the paper on {report.collection}",
        "",
        (
            f"SAE {report.sae}, {report.n_documents:,} documents, seed {report.seed}, {report.made}. "
            f"{report.grid} Source of the claims: arXiv 2408.00657."
        ),
        "",
        *_table(
            ("claim", "verdict"),
            [(f"{claim.number}. {claim.title}", claim.verdict) for claim in report.claims],
        ),
        "",
        "## Beside simpler dictionaries",
        "",
        *_table(("measure", "this SAE", *BASELINES), beside_rows(report)),
        "",
        *[f"* {each['name']}: {each['remark']}." for each in report.baselines],
        "",
    ]
    for claim in report.claims:
        lines += _claim_section(claim)
    lines += _category_section(report)
    if report.left_out:
        lines += ["## Left out", "", *[f"* {sentence}" for sentence in report.left_out], ""]
    lines += [f"Checked in {sum(claim.seconds for claim in report.claims):,.0f} s."]
    return "\n".join(lines) + "\n"


def beside_rows(report: ClaimsReport) -> list[tuple[str, ...]]:
    """Each measure that a baseline has too: its name, this SAE's value, and that of every baseline."""
    rows: list[tuple[str, ...]] = []
    for measure in (measure for claim in report.claims for measure in claim.measures):
        if len(set(BASELINES) & measure.baselines.keys()) > 1:
            values = [_printed(measure.baselines.get(name), measure.kind) for name in BASELINES]
            rows.append((measure.name, _printed(measure.value, measure.kind), *values))
    if report.categories:
        means = {scores["dictionary"]: scores["mean_f1"]["value"] for scores in report.categories}
        values = [
            _printed(means.get(name), "number") for name in (report.categories[0]["dictionary"], *BASELINES)
        ]
        rows.append(("F1 of the best feature, mean over known categories", *values))
    return rows


def measure_row(measure: Measure) -> tuple[str, str, str, str, str]:
    """Name, value, interval, n, and the baselines of a measure, as people read them."""
    beside = ", ".join(f"{name} {_printed(value, measure.kind)}" for name, value in measure.baselines.items())
    has_interval = measure.low is not None and measure.high is not None
    interval = f"{_printed(measure.low, measure.kind)} to {_printed(measure.high, measure.kind)}"
    return (
        measure.name,
        _printed(measure.value, measure.kind),
        interval if has_interval else "",
        "" if measure.n is None else f"{measure.n:,}",
        beside,
    )


def _printed(value: float | None, kind: str) -> str:
    """A measure; numbers that three decimals would hide keep two digits."""
    if value is None:
        return "—"
    is_small = kind == "number" and 0 < abs(value) < 0.001  # noqa: PLR2004
    return f"{value:.0e}" if is_small else KINDS[kind].format(value)


def _claim_section(claim: Claim) -> list[str]:
    lines = [
        f"## {claim.number}. {claim.title}: {claim.verdict}",
        "",
        f"The paper: {claim.said}",
        "",
        claim.why,
        "",
    ]
    if claim.measures:
        header = ("measure", "this SAE", "95 % interval", "n", "baselines")
        lines += [*_table(header, [measure_row(measure) for measure in claim.measures]), ""]
    return [*lines, f"Caveat: {claim.caveat}", "", f"Language model: {claim.llm}", ""]


def _category_section(report: ClaimsReport) -> list[str]:
    """The best feature of each category, and how far the SAE leads the baselines."""
    if not report.categories:
        return []
    own = report.categories[0]
    summary = [
        (
            scores["dictionary"],
            interval_text(scores["mean_f1"]),
            "" if scores["lead"] is None else interval_text(scores["lead"], signed=True),
        )
        for scores in report.categories
    ]
    rows = [
        (
            best["category"],
            f"#{best['latent']}",
            interval_text(best["f1"]),
            f"{best['n_heldout']:,}",
            *(f"{other['best'][at]['f1']['value']:.2f}" for other in report.categories[1:]),
        )
        for at, best in enumerate(own["best"])
    ]
    names = [scores["dictionary"] for scores in report.categories[1:]]
    return [
        "## Known categories",
        "",
        (
            f"The best single feature of each of {len(rows)} categories (column: {report.category_source}), "
            "feature and threshold chosen on training documents, F1 on held-out ones."
        ),
        "",
        *_table(("dictionary", "mean F1", "lead of the SAE"), summary),
        "",
        *_table(("category", "feature", "F1", "n", *names), rows),
        "",
    ]


def interval_text(entry: dict[str, float], *, signed: bool = False) -> str:
    """A value with its 95 % interval in brackets."""
    form = "{:+.2f}" if signed else "{:.2f}"
    value, low, high = (form.format(entry[name]) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


# --- evaluations ----------------------------------------------------------------------------------


def evaluation_text(evaluation: Evaluation) -> str:
    """Markdown for people: how it was measured, the tables, and what must be known beside them."""
    lines = [f"## {evaluation_title(evaluation)}", ""]
    lines += [f"* {sentence}" for sentence in evaluation.setup]
    for table in evaluation.tables:
        lines += ["", f"### {table.title}", "", *_table(*evaluation_rows(table))]
        lines += ["", table.remark] if table.remark else []
    lines += ["", *[f"* {remark}" for remark in evaluation.remarks], ""]
    lines += [
        f"SAE {evaluation.sae}, seed {evaluation.seed}, {evaluation.made}, {evaluation.seconds:,.0f} s."
    ]
    return "\n".join(lines) + "\n"


def evaluation_title(evaluation: Evaluation) -> str:
    """Its kind, and the judged data if there are any."""
    titles = {
        "steering": "Steering",
        "retrieval": "Retrieval kept",
        "facets": "Facets",
        "users": "Moves from marks",
    }
    title = titles[evaluation.kind]
    return f"{title}: {evaluation.subject}" if evaluation.subject else title


def evaluation_rows(table: Table) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows as people read them, n last."""
    header = ("", *table.columns, "n")
    rows = [
        (row.name, *map(_figure, row.figures), "" if row.n is None else f"{row.n:,}") for row in table.rows
    ]
    return header, rows


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return "—"
    value = _printed(figure.value, figure.kind)
    if figure.low is None or figure.high is None or figure.low == figure.high:
        return value
    return f"{value} [{_printed(figure.low, figure.kind)}, {_printed(figure.high, figure.kind)}]"


# --- grids ----------------------------------------------------------------------------------------


def grid_json(result: GridResult) -> str:
    """Everything about a grid for programs, the same fits to the paper's errors beside it."""
    paper = {name: asdict(paper_laws(name)) for name in PAPER}
    return json.dumps({"schema": SCHEMA, **asdict(result), "paper": paper}, indent=1) + "\n"


def grid_text(result: GridResult) -> str:
    """Markdown for people: every member, the exponents of each k, and those of all together."""
    ks = sorted({member.k for member in result.members})
    data = (
        f"{result.n_train:,} training and {result.n_heldout:,} held-out rows, {result.width:,} dimensions, "
        f"{result.steps:,} steps each. Rows: sha256 {result.data}."
    )
    best = ", ".join(f"k = {k}: n = {result.best(k).n_latents:,}" for k in ks)
    return "\n".join(
        [
            f"# A grid of {len(result.members)} sparse autoencoders",
            "",
            data,
            "",
            *_member_table(result.members),
            "",
            f"Lowest held-out error: {best}.",
            "",
            "## How FVU falls with n",
            "",
            "log FVU = a + alpha log n, for each k; in brackets the 95 % interval of alpha.",
            "",
            *_table(EXPONENT_HEADER, exponent_rows(result)),
            "",
            "## How FVU falls with n and k",
            "",
            JOINT_FORM,
            "",
            *_table(JOINT_HEADER, joint_rows(result)),
            "",
            *(f"* {remark}" for remark in remarks(result)),
            "",
        ]
    )


def remarks(result: GridResult) -> list[str]:
    """What has to be said beside the exponents."""
    found = [PAPER_REMARK, MEMORY_REMARK]
    for name, laws in (("held-out", result.heldout), ("training", result.train)):
        curved = [str(k) for k, fit in laws.by_k.items() if not fit.is_good]
        if curved:
            found.append(
                f"The {name} errors of k = {', '.join(curved)} do not lie on a line (R² below {GOOD_R2}): "
                "their exponents describe no power law."
            )
    if any(fit.n_points == EXACT for laws in (result.heldout, result.train) for fit in laws.by_k.values()):
        found.append(
            "Two points are always on a line: such an exponent has no interval, and R² says nothing."
        )
    return found


def _member_table(members: Sequence[Member]) -> list[str]:
    header = ("SAE", "k", "n", "FVU held-out", "FVU train", "L0", "dead", "rare")
    rows = [
        (
            m.name,
            f"{m.k:,}",
            f"{m.n_latents:,}",
            f"{m.fvu_heldout:.4f}",
            f"{m.fvu_train:.4f}",
            f"{m.l0:.2f}",
            f"{m.n_dead:,}",
            f"{m.n_rare:,}",
        )
        for m in members
    ]
    return _table(header, rows)


def exponent_rows(result: GridResult) -> list[tuple[str, ...]]:
    """A row for each k of ours or of the paper's, in the columns of `EXPONENT_HEADER`."""
    papers = [paper_laws(name).by_k for name in PAPER]
    ours = [result.heldout.by_k, result.train.by_k]
    rows = []
    for k in sorted({member.k for member in result.members}.union(*papers)):
        cells = [f"{k:,}"]
        for fit in (laws.get(k) for laws in ours):
            cells += [_exponent(fit), "" if fit is None else f"{fit.r2:.3f}"]
        rows.append((*cells, *(_exponent(paper.get(k)) for paper in papers)))
    return rows


def joint_rows(result: GridResult) -> list[tuple[str, ...]]:
    """The fits over all k, without and with gamma, ours before the paper's, under `JOINT_HEADER`."""
    laws = {"held-out": result.heldout, "train": result.train}
    laws |= {f"paper, {name}": paper_laws(name) for name in PAPER}
    rows: list[tuple[str, ...]] = []
    for name, law in laws.items():
        for fit in (law.joint, law.crossed):
            if fit is not None:
                terms = {term.name: _with_error(term) for term in fit.terms}
                cells = (terms["n"], terms["k"], terms.get("k × n", ""))
                rows.append((name, *cells, f"{fit.r2:.3f}", f"{fit.n_points:,}"))
    return rows


def _exponent(fit: Fit | None) -> str:
    """The exponent of n with its 95 % interval: `-0.123 [-0.131, -0.115]`."""
    if fit is None:
        return ""
    term = fit.term("n")
    if term.low is None or term.high is None:
        return _signed(term.value)
    return f"{_signed(term.value)} [{_signed(term.low)}, {_signed(term.high)}]"


def _with_error(term: Term) -> str:
    """A coefficient with its standard error: `-0.123 ± 0.004`."""
    return _signed(term.value) + ("" if term.error is None else f" ± {term.error:.3f}")


def _signed(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"  # zero has no sign


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table that is aligned in plain text too; all columns but the first to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = [f"{'-' * (width + 1)}:" if i else "-" * (width + 2) for i, width in enumerate(widths)]
    return [line(header), f"|{'|'.join(rule)}|", *map(line, rows)]
