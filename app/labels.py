"""Labels as pages show them: the text, how far it can be trusted, and why it is what it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.views.common import DocumentLink, LabelView, Trust
from app.views.features import CandidateRow, WhyView
from sae_core.labels import Label

UNLABELLED = "unlabelled"
CHANCE = 0.5  # the AUC of a label that says nothing
FAIR, STRONG = 0.75, 0.9  # from these AUCs on
MAX_LETTERS = 200  # of a label, wherever it comes from: nothing has room for more
N_PHRASES = 3  # that an unlabelled feature shows in place of a label
# Candidates are judged by these, in this order; others follow by name.
_PARTS = ("contrast", "activation", "specificity", "separation", "readability", "ranking")
_WORDS = {
    "strong": "strong",
    "fair": "fair",
    "weak": "weak",
    "chance": "near chance",
    "unscored": "not scored",
    "none": "unlabelled",
}


def is_labelled(label: Label) -> bool:
    return label.source != "none" and bool(label.text.strip())


def trust_of(label: Label) -> Trust:
    """The badge: by the AUC, and grey where its interval includes chance."""
    if not is_labelled(label):
        return Trust("none", _WORDS["none"], None, None, None, 0)
    if label.score is None:
        return Trust("unscored", _WORDS["unscored"], None, None, None, 0)
    auc = label.score.auc
    level = "strong" if auc.value >= STRONG else "fair" if auc.value >= FAIR else "weak"
    if auc.low <= CHANCE:
        level = "chance"
    n = label.score.n_positives + label.score.n_negatives
    return Trust(level, _WORDS[level], auc.value, auc.low, auc.high, n)


def label_view(label: Label, unlabelled: str = UNLABELLED) -> LabelView:
    """What pages show of a label; `unlabelled` is the text where there is none."""
    has_text = is_labelled(label)
    return LabelView(
        text=shortened(label.text) if has_text else unlabelled,
        source=label.source if has_text else "none",
        trust=trust_of(label),
        phrases=[] if has_text else [shortened(each.text) for each in label.candidates[:N_PHRASES]],
    )


def shortened(text: str) -> str:
    return text if len(text) <= MAX_LETTERS else f"{text[: MAX_LETTERS - 1]}…"


def mention(view: LabelView, number: int) -> str:
    """The label where it is only mentioned: phrases, or the number, tell an unlabelled one from others."""
    if view.source != "none":
        return view.text
    return f"{view.text} ({', '.join(view.phrases)})" if view.phrases else f"{view.text} #{number}"


# --- why this label -------------------------------------------------------------------------------


def why(label: Label, cite: Callable[[Sequence[int]], list[DocumentLink]]) -> WhyView:
    """All that is known of how a label came about; `cite` makes links of positions of documents."""
    evidence = label.evidence
    named = {name for candidate in label.candidates for name in candidate.parts}
    parts = [name for name in _PARTS if name in named] + sorted(named.difference(_PARTS))
    scores = [*([label.score] if label.score else []), *label.other_scores]
    return WhyView(
        source=_source(label.source if is_labelled(label) else "none"),
        made=evidence.made if evidence else "",
        prompt=evidence.prompt if evidence else "",
        reasoning=evidence.reasoning if evidence else "",
        remark=_sentence(label.remark),
        parts=parts,
        candidates=[
            CandidateRow(
                text=shortened(candidate.text),
                source=_source(candidate.source),
                is_label=is_labelled(label) and candidate.text == label.text,
                parts=[candidate.parts.get(name) for name in parts],
                chosen_by=candidate.chosen_by,
            )
            for candidate in label.candidates
        ],
        scores=scores,
        positives=cite(evidence.positives) if evidence else [],
        negatives=cite(evidence.negatives) if evidence else [],
        history=label.history,
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].removesuffix('.')}." if text else ""


def _source(source: str) -> str:
    kind, _, model = source.partition(":")
    if kind == "llm":
        return f"the language model {shortened(model)}"
    return {"phrases": "phrases of its documents", "none": "no label"}.get(source, shortened(source))
