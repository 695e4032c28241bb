"""Words of a corpus: texts cut into tokens once, and what each word may do in a phrase.

No grammar is loaded. Which words may begin or end a phrase is read from a short stop list and from the
corpus itself: a word that nearly always leans on the next one ("supermassive", "gradient-boosted") ends
no phrase, a word that nearly always follows another ("hole" after "black") begins none.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from array import array
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from sae_core.corpus import Document

SPACE, HYPHEN, BREAK = 0, 1, 2  # what stands after a token
MIN_SEEN = 8  # occurrences of a word before its habits count
LEANS = 0.85  # share of occurrences in which a content word comes next: ends no phrase
LEANS_COMPOUND = 0.75  # the same, for two words that a hyphen joins: "multi-task", "graph-based"
LEANS_ALONE = 0.6  # the same, for a word that looks like an adjective: is no phrase
ADJECTIVES = ("al", "ic", "ive", "ous", "ary", "ar", "able", "ible", "less", "ing")  # endings
TO = 0.2  # share in which "to" comes before: a verb, which begins and ends none
FOLLOWS = 0.92  # share in which one comes before: begins none
GOVERNS = 0.3  # share in which an article comes next: a verb, which has no place in a phrase
GOVERNS_SOMETIMES = 0.05  # the same of a word in -ing that acts on what follows, and adds little to it
AIMS = 0.6  # share in which "to" comes next: a verb too ("seeks to")
ARTICLES = frozenset(("the", "a", "an", "its", "their", "our", "this", "these"))
CONTRACTIONS = ("n't", "n’t", "'re", "’re", "'ll", "’ll", "'ve", "’ve")
MAX_LETTERS = 30
MAX_PATH = 80  # letters of a qualified name
MAX_PREFIXES = 3
LONG = 4  # letters, beyond which -ly and -ed are endings

# Function words, and words that texts about research or about code use whatever their subject.
# A phrase neither begins nor ends with one.
_STOP = """
arise arises combines emerge emerges inferior lie lies relies struggle struggles suffer suffers superior
surpass surpasses
a ability able about above abstract according account accounts accurate achieve achieved achieves achieving
acquired across actual actually adapting add added addition additional additionally address addressed
addresses addressing adopt adopted advance advances advantage affect affected after again against agree
agreement aim aims al all allow allowed allowing allows almost alone along already also alternative although
always am among amongst amount an analyse analysed analyze analyzed analyzing and another any anything apart
appear appears applicable applied applies apply applying appropriate approximately april are aren't arg args
argue argument arguments around article arxiv as aspect aspects assess assessed assessing associated assume
assumed assuming assumption at attempt attribute attributes august author authors available average aware
away based baseline basic basis be became because become becomes been before begin behind being believed
below benefit besides better between beyond bool boolean both broad build but by calculate calculated
calculating calculation calculations callable called calls came can cannot capabilities capability capable
carried carry cause caused causes causing certain challenge challenges challenging changed changing
characterise characteristic characteristics characterize characterized choice choose chosen classmethod
clear clearly close closely closer cls com combination combine combined combining come common commonly
comparable compare compared comparing comparison completely comprehensive compute computed conclude
conclusion conclusions conducted confirm confirmed confirms consequence consequences consider considerable
considerably consideration considered considering considers consist consistent consists constitute constrain
constrains construct constructed constructor contain contained containing contains contrary contrast
contribute contribution contributions convenience correct correctly correspond corresponding corresponds
could cover covers create created creates creating creation crucial current currently deal december decrease
decreased decreases deeper default defaults define defined defines definition degree demonstrate
demonstrated demonstrates demonstrating depend dependent depending depends deprecated derive derived derives
deriving describe described describes describing designed desired detail detailed details detect detected
detecting determination determine determined determines determining develop developed developing deviates
dict did differ different difficult directly discover discovered discuss discussed discusses discussion
discussions display distinct do docstring documentation does doesn't doi doing domain dominant don't done
down draw due during e.g each easily easy effective effectively efficient efficiently effort eg either
elements else elsewhere employ employed employing enable enabled enables enabling enhance enhanced enough
ensure ensuring entire especially essential establish established estimated estimating et etc evaluate
evaluated evaluating even ever every everything evidence evident examine examined example examples exceed
excellent except exhibit exhibits exist existence existing exists exiting exits expect expected experimental
experimentally explain explained explaining explains explicit explicitly exploiting explore explored
explores exploring express extend extended extends extensive extent extracted extremely face facilitate
facilitates fact fail fails fairly false far favour february few fewer figure finally find finding findings
finds float focus focused focuses focusing follow followed following follows for form formed former forms
formulate forth found four frequently from func further furthermore future gain gave generally generate
generated generates generating get gets getting github github.com give given gives giving go goal goals goes
going gone got great greater growing had half handle has have having he help helps hence her here hers
highest highly him his hitherto hold holds hook how however http https i i.e idea identified identifies
identify identifying ie if illustrate illustrated implement implemented implementing implication
implications implied implies imply importance important importantly impose impressive improve improved
improvement improvements improves improving in include included includes including incorporate incorporating
increase increased increases increasing increasingly indeed independently indicate indicated indicates
indicating indication individual inform inherit inherits init initial inside insight insights inspired
instead int integer interest interested interesting interpret interpretation interpreted into introduce
introduced introduces introducing introduction investigate investigated investigates investigating
investigation invoked involve involved involves involving is isn't issues it item items its itself january
july june just keep kept key keyword keywords kind kinds known kwarg kwargs lack largely larger largest last
later latest latter lead leading leads least led less lest let letter leveraging like likely limitation
limitations limited literature little longer look lowest made main mainly major majority make makes making
manner many march may maybe me meaning meanwhile measure measured measuring mention might mine modelled
moderate modern modified more moreover most mostly motivate motivated much must my name namely names
naturally near nearly necessary need needed needs neither never nevertheless new newly next no nobody none
nor not notable note noted nothing novel november now nowhere numerous observe observes obtain obtained
obtaining obvious occur occurred occurring occurs october of off offer offers often on once one ones only
onto opposite optional or order ordinary org original originating other others otherwise our ours out
outcome outcomes outline outperform outperforms over overall override overview own paper papers param params
part partially particular particularly pass passed passing past people per perform performed performing
performs perhaps perspective place play played plays please poorly popular possibility possible possibly
potentially powerful practical precise precisely predict predicted predicting predicts preparing presence
present presentation presented presenting presents previous previously primarily prior probing proceedings
produce produced produces producing progress promising proof property propose proposed proposes proposing
prospects prove proved proven provide provided provides providing purpose purposes put quantify quantitative
question questions quickly quite raise raised raises ranging rather reach reached readily realistic really
reason reasonable recent recently recognized reduce reduced reduces reducing refer reference regarding
related relative relatively relevant reliable rely remain remaining remains remarkable removing report
reported reports represent represented representing represents reproduce reproduces require required
requirement requirements requires requiring researchers respect respectively response responsible result
resulting results rethinking return returned returning returns reveal revealed reveals review reviewed
reviews revisiting right rise robust roughly run same satisfy say says section see seem seemed seeming seems
seen select selected selection self sensitive separate september series serve set sets several severe shape
she should show showed showing shown shows significance significant significantly similar similarly simpler
simplest simply simultaneous simultaneously since situation situations slightly smaller smallest so
so-called solely solve solved solving some something sometimes somewhat soon specific specifically spite
start state-of-the-art still str stronger strongest strongly studied studying subclass subclasses subsequent
subsequently substantial substantially success successful successfully such sufficient sufficiently suggest
suggested suggesting suggests suitable summarise summarised summarize summarized summary super support
supported supporting supports suppose surprising surrounding systematic systematically take taken takes
taking tend tested than thank that the their theirs them themselves then theoretical theoretically there
thereby therefore these they think this those though three through throughout thus title to today todo
together too top topic topics toward towards trace traditional treat treated true turn two typical typically
typing ultimately unable unclear under underlying understand understanding understood unique unknown unless
unlike unlikely until up upon us usage use used useful user uses using usual usually utility utilize valid
validate validated validation valuable variety various vary varying verified verify versionadded
versionchanged very via vs want was ways we well went were what whatever when whenever where whereas whereby
wherein wherever whether which while who whole whom whose why wide wide-ranging widely will with within
without working worse worth would written www year years yes yet yield yielded yielding yields you your
"""
# Words that may end a phrase ("field theory", "loss function") but neither begin nor be one.
_HEADS = """
analyses analysis application applications approach approaches behavior behaviour candidate candidates case
cases change changes class classes code codes collection condition context data dataset datasets dependence
description design detection development dictionary difference differences effect effects estimate estimates
estimation evaluation experiment experiments factor factors feature features framework function functions
group groups identification impact implementation influence information input inputs instance instances
issue iterable knowledge level levels library limit limits line lines list lists measurement measurements
mechanism mechanisms method methodology methods model modeling modelling models module modules motivation
nature number numbers object objective objects option options origin output outputs package parameter
parameters performance period phenomena phenomenon point points potential potentials practice prediction
predictions principle problem problems procedure procedures process processes quality quantities quantity
range ranges rate rates ratio region regions relation relations relationship representation representations
research role sample samples scale scales scenario scenarios scheme schemes scope setting settings share
side size solution solutions source sources stage stages state strategies strategy string strings structure
structures studies study subject survey surveys system systems table task tasks technique techniques term
terms test testing tests theories theory time times tool tools treatment tuple tuples type types
uncertainties uncertainty union value values variable variables version view warning warnings way work works
world
"""
# Words that may begin a phrase ("weak lensing", "standard model") but neither end nor be one.
_MODIFIERS = """
best complete deep direct final first full fundamental general good high higher large long low lower null
open partial real second short simple single small standard static strong third total weak zero
"""
# Words that may begin or end a phrase but say nothing alone.
_NOT_ALONE = """
accuracy action active activity algorithm algorithms approximation approximations array arrays assumption
background body bound boundary bounds cell cells central classification coefficient coefficients complex
component components computation computational concept conditions configuration constraint constraints
control coordinates corrections correlation correlations critical decision density detections deviation
deviations diagram dimension dimensional direction discovery disease distance distribution distributions
dynamic dynamics early edge eight emission energies energy environment environments equation equations error
errors event events evolution expansion expression expressions extraction field fields file files fit five
flow fluctuations fluid formalism format formation formula fraction free frequency gene generalization
generation genes global growth hundred image images independent index integration interaction interactions
kernel late law learning length linear local loss luminous map maps mass masses massive material matrix
maximum mean mechanics medium mode modes momentum motion multiple network networks nine node noise non
nonlinear normal numerical objectives observables observation observational observations observed observing
operation operations operator operators optimal optimization orders pair pairs parameterization parametric
particle particles path paths patient patients pattern patterns phase physical physics plane population
populations position power precision primary probability production profile profiles program projects
properties proposal protein proteins query radial random rank reaction reconstruction release resolution
responses rest rich risk rotation rule science scientific sensitivity sequence seven signal signals
signature signatures simulation simulations six solver space spatial spectra spectral spectrum speed
stability stable states statistic statistical statistics step steps strength sum surface surrogate symmetric
symmetry target temperature temporal ten tensor tensors text thermal thousand training transfer
transformation transition transport tree trial truncation uniform unit units universal update variation
variations vector vectors velocity volume weight weights width window words
"""
# Stop words that may stand inside a phrase.
_INSIDE = "of to in for on from the and with at"
STOP, HEADS, MODIFIERS, NOT_ALONE, INSIDE = (
    frozenset(words.split()) for words in (_STOP, _HEADS, _MODIFIERS, _NOT_ALONE, _INSIDE)
)

_LETTERS = """
alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi pi rho sigma tau phi chi psi omega
"""
GREEK = dict(zip(_LETTERS.split(), "αβγδεζηθκλμνξπρστφχψω", strict=True))
GREEK |= {name.capitalize(): letter.upper() for name, letter in GREEK.items()}
_TEX_GREEK = re.compile(r"\\(?:var)?(" + "|".join(sorted(GREEK, key=len, reverse=True)) + r")(?![a-zA-Z])\s?")
_TEX_FONT = re.compile(r"\\(?:rm|it|bf|em|emph|text\w*|math\w+|mbox)(?![a-zA-Z])\s?")
_ADDRESS = re.compile(r"\b(?:https?://|www\.)\S+")
_TEX_ACCENT = re.compile(r"\\['`^\"~=.](?:\{([a-zA-Z])\}|([a-zA-Z]))")
_TEX_COMMAND = re.compile(r"\\[a-zA-Z]+|\\.")
_TEX_MARKS = str.maketrans("", "", "${}^_")
_MATHS = re.compile(r"\$[^$]{0,200}\$")
_CODE_LINE = re.compile(r"^\s*(?:>>>|\.\.\. ).*$", re.MULTILINE)
_FIELD = re.compile(r":(?:param|type|raises?|returns?|rtype|ivar|cvar)\b[^:\n]*:")
_ROLE = re.compile(r":(?:\w+:)?\w+:`")
_DIRECTIVE = re.compile(r"\.\.\s+[\w-]+::")
_WORD = re.compile(r"[^\W_]+(?:[.'’_+]+[^\W_]+)*")
_GAPS = {" ": SPACE, "\n": SPACE, "-": HYPHEN, "‐": HYPHEN, "‑": HYPHEN, "–": HYPHEN, "~": SPACE}
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+|\d+")


@dataclass(frozen=True)
class Tokens:
    """A corpus as T tokens over W distinct words, M documents; and what each word may do."""

    words: list[str]  # as written
    word_T: NDArray[np.int32]
    gap_T: NDArray[np.uint8]  # after the token
    is_title_T: NDArray[np.bool_]
    leans_T: NDArray[np.bool_]  # the end of a compound that nearly always leans on the next word
    document_ptr: NDArray[np.int64]  # (M + 1,)
    normal_W: NDArray[np.int32]  # the same number for "Galaxy", "galaxy" and "galaxies"
    shown_W: NDArray[np.int32]  # the word in its usual case
    is_content_W: NDArray[np.bool_]  # no stop word, no number, no verb
    opens_idly_W: NDArray[np.bool_]  # adds little before a phrase: "large", "integrating"
    ends_idly_W: NDArray[np.bool_]  # adds little behind one: "study"
    may_begin_W: NDArray[np.bool_]
    may_end_W: NDArray[np.bool_]
    may_stand_inside_W: NDArray[np.bool_]
    may_stand_alone_W: NDArray[np.bool_]

    def normals(self, text: str) -> list[int]:
        """Normal forms of the words of a text that say something, as far as the corpus has them; cached."""
        if text not in self._normals:
            self._normals[text] = self._find_normals(text)
        return self._normals[text]

    def _find_normals(self, text: str) -> list[int]:
        found = []
        for word, _ in _cut(text):
            lower = _lower(word)
            at = self._known.get(lower, self._known.get(_singular(lower, self._known.keys()), -1))
            if at >= 0 and lower not in STOP:
                found.append(int(self.normal_W[at]))
        return found

    @cached_property
    def _normals(self) -> dict[str, list[int]]:
        return {}

    @cached_property
    def _known(self) -> dict[str, int]:
        """A word of the corpus by its lower case."""
        return {_lower(word): at for at, word in enumerate(self.words)}


def tokenise(documents: Sequence[Document]) -> Tokens:
    """Cut titles and abstracts into tokens and learn the habits of the words, each text read once."""
    numbers: dict[str, int] = {}
    word_ids, gaps, titles, pointers = array("i"), bytearray(), bytearray(), array("q", [0])
    for document in documents:
        for text, is_title in ((document.title, True), (document.abstract, False)):
            start = len(word_ids)
            for word, gap in _cut(text):
                word_ids.append(numbers.setdefault(word, len(numbers)))
                gaps.append(gap)
            if len(word_ids) > start:
                gaps[-1] = BREAK
            titles += bytes([is_title]) * (len(word_ids) - start)
        pointers.append(len(word_ids))
    word_T, gap_T = np.array(word_ids, dtype=np.int32), np.array(gaps, dtype=np.uint8)
    is_title_T = np.array(titles, dtype=np.bool_)
    del word_ids, gaps, titles
    words = list(numbers)
    normal_W = _normal_forms(words)
    permissions = _permissions(words, normal_W, word_T, gap_T)
    return Tokens(
        words=words,
        word_T=word_T,
        gap_T=gap_T,
        is_title_T=is_title_T,
        leans_T=_leaning_compounds(normal_W[word_T], gap_T, permissions["is_content_W"][word_T]),
        document_ptr=np.array(pointers, dtype=np.int64),
        normal_W=normal_W,
        shown_W=_usual_case(words, word_T, gap_T, is_title_T),
        **permissions,
    )


def _cut(text: str) -> Iterator[tuple[str, int]]:
    """Words with what follows them. Qualified names are spelled out: scipy.stats, scipy.stats.norm, norm."""
    text = _tidy(text)
    matches = list(_WORD.finditer(text))
    for match, following in itertools.pairwise(matches):
        gap = _GAPS.get(text[match.end() : following.start()], BREAK)
        word = match[0]
        if word.isalnum():
            yield word, gap
        else:
            yield from _spell(word, gap)
    if matches:
        yield from _spell(matches[-1][0], BREAK)


def _tidy(text: str) -> str:
    """Without the commands of TeX and reStructuredText, addresses and lines of code."""
    if "$" in text or "\\" in text:
        text = _TEX_GREEK.sub(lambda match: GREEK[match[1]], text)
        text = _TEX_ACCENT.sub(r"\1\2", text)  # the letter without its accent: the common spelling
        text = _TEX_COMMAND.sub(" | ", _TEX_FONT.sub("", text))
        text = _MATHS.sub(lambda match: match[0].translate(_TEX_MARKS), text)
    if "://" in text or "www." in text:
        text = _ADDRESS.sub(" | ", text)
    if "`" in text or ":" in text or ">>>" in text:
        text = _FIELD.sub(" | ", _ROLE.sub("`", _DIRECTIVE.sub(" | ", _CODE_LINE.sub("|", text))))
    return text


def _spell(word: str, gap: int) -> Iterator[tuple[str, int]]:
    if word.endswith(("'s", "’s")):
        word = word[:-2]
    parts = word.split(".")
    is_path = len(parts) > 1 and all(len(part) > 1 and not part[0].isdigit() for part in parts)
    if not is_path and "_" not in word:
        yield word, gap
        return
    if is_path:
        for n in range(1, min(len(parts), MAX_PREFIXES + 1)):
            yield ".".join(parts[:n]), BREAK
    yield word, BREAK
    if is_path:
        pieces = _CAMEL.findall(parts[-1])
        for at, piece in enumerate(pieces):
            shown = piece if piece.isupper() and len(piece) > 1 else piece.lower()
            yield shown, SPACE if at < len(pieces) - 1 else BREAK


def _normal_forms(words: Sequence[str]) -> NDArray[np.int32]:
    """Lower case without accents, and singular where the corpus has the singular too."""
    lowered = [_lower(word) for word in words]
    known = set(lowered)
    numbers: dict[str, int] = {}
    normal = np.empty(len(words), dtype=np.int32)
    for at, word in enumerate(lowered):
        normal[at] = numbers.setdefault(_singular(word, known), len(numbers))
    return normal


def _lower(word: str) -> str:
    if word.isascii():
        return word.lower()
    return "".join(c for c in unicodedata.normalize("NFD", word.lower()) if not unicodedata.combining(c))


def _singular(word: str, known: AbstractSet[str]) -> str:
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):  # noqa: PLR2004
        stems = [word[:-3] + "y"] if word.endswith("ies") else [word[:-1]]
        if word.endswith(("ses", "xes", "zes", "ches", "shes")):
            stems.append(word[:-2])
        for stem in stems:
            if stem in known:
                return stem
    return word


def _usual_case(
    words: Sequence[str],
    word_T: NDArray[np.int32],
    gap_T: NDArray[np.uint8],
    is_title_T: NDArray[np.bool_],
) -> NDArray[np.int32]:
    """For each word its most common case, where neither a title nor a sentence's start decides it."""
    after_break = np.concatenate(([True], gap_T[:-1] == BREAK)) if len(gap_T) else np.zeros(0, np.bool_)
    plain = np.bincount(word_T[~is_title_T & ~after_break], minlength=len(words))
    anywhere = np.bincount(word_T, minlength=len(words))
    best: dict[str, tuple[int, int, int]] = {}
    for at, word in enumerate(words):
        entry = (int(plain[at]), int(anywhere[at]), at)
        lower = word.lower()
        if lower not in best or entry[:2] > best[lower][:2]:
            best[lower] = entry
    return np.array(
        [at if _is_styled(word) else best[word.lower()][2] for at, word in enumerate(words)], dtype=np.int32
    )


def _is_styled(word: str) -> bool:
    """Capitals inside a word are its spelling (PT, DataFrame), except in a heading of capitals."""
    return word[1:] != word[1:].lower() and (len(word) <= LONG or not word.isupper())


def _permissions(
    words: Sequence[str],
    normal_W: NDArray[np.int32],
    word_T: NDArray[np.int32],
    gap_T: NDArray[np.uint8],
) -> dict[str, NDArray[np.bool_]]:
    """Which words are content, may begin a phrase, end one, stand inside one, and be one."""

    def which(claim: Callable[[str], bool]) -> NDArray[np.bool_]:
        return np.array([claim(word) for word in words], dtype=np.bool_)

    fits = which(lambda word: len(word) <= (MAX_LETTERS if "." not in word else MAX_PATH))
    lettered = which(lambda word: any(map(str.isalpha, word)))
    content = fits & lettered & ~which(lambda word: word.lower() in STOP or word.endswith(CONTRACTIONS))
    governs = _before(ARTICLES, words, normal_W, word_T, gap_T)
    aims = which(lambda word: word.endswith("s") and not word.endswith("ss"))  # "seeks", but not "access"
    aims &= _before(frozenset(("to",)), words, normal_W, word_T, gap_T) > AIMS
    content &= (governs <= GOVERNS) & ~aims
    # "integrating deep learning", but not "rotating black holes"
    acts = which(lambda word: word.endswith("ing")) & (governs > GOVERNS_SOMETIMES)
    habits = _habits(words, content, normal_W, word_T, gap_T)
    leans, follows, is_verb = habits.leans > LEANS, habits.follows > FOLLOWS, habits.infinitive > TO
    long_enough = which(lambda word: len(word) > 1 or word.isupper())
    is_name = which(lambda word: word.isupper() or "." in word or "_" in word)
    adverb = which(lambda word: len(word) > LONG and word.lower().endswith("ly"))
    participle = which(lambda word: len(word) > LONG and word.lower().endswith("ed") and word != "infrared")
    head = which(lambda word: word.lower() in HEADS)
    number = which(lambda word: len(word) == 2 and word.isdigit())  # noqa: PLR2004 (as in 21 cm)
    begin = (content & long_enough & ~follows & ~is_verb & ~adverb & ~head) | number
    end = content & long_enough & (~leans | is_name) & ~is_verb & ~adverb & ~participle
    end &= ~which(lambda word: word.lower() in MODIFIERS)
    weak = which(lambda word: word.lower() in NOT_ALONE or len(word) < (2 if word.isupper() else 3))
    weak |= which(lambda word: word.lower().endswith(ADJECTIVES)) & (habits.leans > LEANS_ALONE)
    return {
        "is_content_W": content,
        "opens_idly_W": acts | which(lambda word: word.lower() in MODIFIERS),
        "ends_idly_W": head,
        "may_begin_W": begin,
        "may_end_W": end,
        "may_stand_inside_W": fits & (content | ~lettered | which(lambda word: word.lower() in INSIDE)),
        "may_stand_alone_W": begin & end & ~weak & ~number,
    }


def _leaning_compounds(
    normal_T: NDArray[np.int32], gap_T: NDArray[np.uint8], is_content_T: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which tokens end a compound that ends no phrase, (T,)."""
    leans_T = np.zeros(len(normal_T), dtype=np.bool_)
    ends = 1 + np.flatnonzero((gap_T[:-1] == HYPHEN) & (gap_T[1:] != HYPHEN))
    pairs = normal_T[ends - 1].astype(np.int64) << 32 | normal_T[ends]
    _, which, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    followed = (gap_T[ends] == SPACE) & np.append(is_content_T[1:], False)[ends]
    share = np.bincount(which, weights=followed, minlength=len(counts)) / np.maximum(counts, 1)
    leans_T[ends] = ((share > LEANS_COMPOUND) & (counts >= MIN_SEEN))[which]
    return leans_T


@dataclass(frozen=True)
class _Habits:
    """Shares of a word's occurrences, (W,); 0 for words that are too rare to have habits."""

    leans: NDArray[np.float64]  # a content word comes next
    follows: NDArray[np.float64]  # a content word comes before
    infinitive: NDArray[np.float64]  # "to" comes before


def _before(
    following: frozenset[str],
    words: Sequence[str],
    normal_W: NDArray[np.int32],
    word_T: NDArray[np.int32],
    gap_T: NDArray[np.uint8],
) -> NDArray[np.float64]:
    """The share of a word's occurrences in which one of these comes next, (W,); 0 for rare words."""
    is_following_W = np.array([word in following for word in words], dtype=np.bool_)
    before = (gap_T[:-1] == SPACE) & is_following_W[word_T[1:]]
    n = int(normal_W.max(initial=-1)) + 1
    seen = np.bincount(normal_W[word_T], minlength=n)
    share = np.bincount(normal_W[word_T[:-1]][before], minlength=n) / np.maximum(seen, 1)
    return np.asarray(np.where(seen >= MIN_SEEN, share, 0)[normal_W])


def _habits(
    words: Sequence[str],
    is_content_W: NDArray[np.bool_],
    normal_W: NDArray[np.int32],
    word_T: NDArray[np.int32],
    gap_T: NDArray[np.uint8],
) -> _Habits:
    n = int(normal_W.max(initial=-1)) + 1
    normal_T = normal_W[word_T]
    seen = np.bincount(normal_T, minlength=n)
    is_to_W = np.array([word == "to" for word in words], dtype=np.bool_)
    joined = (gap_T[:-1] != BREAK) & is_content_W[word_T[:-1]] & is_content_W[word_T[1:]]
    after_to = (gap_T[:-1] != BREAK) & is_to_W[word_T[:-1]]
    shares = [
        np.where(seen >= MIN_SEEN, np.bincount(found, minlength=n) / np.maximum(seen, 1), 0)[normal_W]
        for found in (normal_T[:-1][joined], normal_T[1:][joined], normal_T[1:][after_to])
    ]
    return _Habits(*shares)
