"""Procedural data sets with the schemas of the GLUE tasks: the source `demo`.

Every example is drawn from the language of `harness.demo_language` by a generator of its own, so the
same task and seed give the same texts on every machine. A label follows from the facts behind the
sentences; what a model has to find out is which words of two texts mean the same and which do not.
Labels of the training split are noisy, as annotators' are (`NOISE`); those of validation are not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from harness.demo_language import (
    DETAILS,
    Clause,
    Sentence,
    Token,
    agreeing_sentence,
    blame,
    blame_changes,
    chance,
    choice,
    express,
    join,
    opposite,
    passage,
    random_clauses,
    substitute,
    synonym,
    weaken,
)
from harness.demo_lexicon import (
    ASPECTS,
    LEXICON,
    NOUNS,
    OPINIONS,
    TRAITS,
    third_person,
)

NOISE = 0.15
"""Share of training labels that are replaced by another one (stsb: 1/2 of the sd that is added)."""

Rng = np.random.Generator
Example = tuple[Sentence, ...]
Draw = Callable[[Rng, int], Example]
Labels = npt.NDArray[np.int64] | npt.NDArray[np.float32]


@dataclass(frozen=True)
class DemoSplit:
    """Examples of one split.

    texts: num_examples tuples of 1 or 2 texts, in the order of GLUE's columns; words and stops are
        separated by single spaces.
    labels: (num_examples,) int64 class indices in GLUE's order, or float32 scores in [0, 5] (stsb).
    """

    texts: tuple[tuple[str, ...], ...]
    labels: Labels


@dataclass(frozen=True)
class DemoTask:
    """How the examples of one task are drawn.

    draw: validation split -> function of a generator and a label; "train" draws as the first does.
    shares: of the labels 0, 1, ...; they sum to 1.
    is_score: whether label k of shares stands for the score k (stsb), not for a class.
    """

    draws: Mapping[str, Draw]
    shares: tuple[float, ...]
    is_score: bool = False


def _contradict(rng: Rng, clause: Clause, others: list[Clause]) -> Clause:
    """A clause that does not follow from `clause`, nor from the `others` of the same passage."""
    changes = ("new", "opposite", "borrowed", "negation", "roles")
    change = changes[int(rng.choice(len(changes), p=[0.6, 0.12, 0.12, 0.1, 0.06]))]
    if change == "opposite":
        return opposite(clause, "verb")
    if change == "negation":
        return replace(clause, negated=not clause.negated)
    if change == "roles":
        return replace(clause, agent=clause.patient, patient=clause.agent)
    if change == "borrowed" and others:
        slot = choice(rng, ("agent", "verb", "patient"))
        return replace(clause, **{slot: choice(rng, others).value(slot)})
    return substitute(rng, clause, choice(rng, clause.filled()), others)


def _facts(rng: Rng, nouns: range = range(len(NOUNS))) -> list[Clause]:
    """One fact, often two, rarely three; any of them may be the first."""
    return random_clauses(rng, int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1])), nouns)


def _shuffled(rng: Rng, clauses: list[Clause]) -> list[Clause]:
    return [clauses[index] for index in rng.permutation(len(clauses))]


def _stop(tokens: Sentence, stop: str = ".") -> Sentence:
    return [*tokens, Token(stop)]


def acceptability(rng: Rng, label: int) -> Example:
    """cola: 0 unacceptable, 1 acceptable."""
    tokens = agreeing_sentence(rng)
    return (_stop(tokens if label == 1 else _disturb(rng, tokens)),)


def _disturb(rng: Rng, tokens: Sentence) -> Sentence:
    """The sentence with a fault: the wrong number, a determiner out of place or a verb too many."""
    fault = rng.random()
    verb = next(index for index, token in enumerate(tokens) if token.slot == "verb")
    if fault < 0.6:
        finite = next(index for index, token in enumerate(tokens) if token.slot in FINITE)
        wrong = Token(_other_number(tokens[finite].word), tokens[finite].slot, fault=True)
        return [*tokens[:finite], wrong, *tokens[finite + 1 :]]
    if fault < 0.8:
        index = choice(rng, [i for i, token in enumerate(tokens) if token.slot == "determiner"])
        swapped = [tokens[index + 1]._replace(fault=True), tokens[index]._replace(fault=True)]
        return [*tokens[:index], *swapped, *tokens[index + 2 :]]
    return [*tokens, tokens[verb]._replace(fault=True)]


FINITE = ("auxiliary", "verb")
_BASE_FORMS = {third_person(word.text): word.text for word in LEXICON if word.form == "base"}
_BASE_FORMS["does"] = "do"


def _other_number(verb: str) -> str:
    """The verb's plural form for its singular and the other way round: chases <-> chase."""
    singulars = {base: singular for singular, base in _BASE_FORMS.items()}
    return _BASE_FORMS.get(verb) or singulars[verb]


def sentiment(rng: Rng, label: int) -> Example:
    """sst2: 0 negative, 1 positive: what most remarks say, and in a draw the one after "but"."""
    count = int(rng.integers(1, 5))
    against = int(rng.integers(count // 2 + 1))
    draw = 2 * against == count
    signs = [1 - label] * against + [label] * (count - against)
    if not draw:
        signs = [signs[index] for index in rng.permutation(count)]
    remarks = [_remark(rng, sign) for sign in signs]
    if draw:
        remarks[-2:] = [[*remarks[-2], Token("but"), *remarks[-1]]]
    return (join(rng, remarks, ("and", ".")),)


def _remark(rng: Rng, sign: int) -> Sentence:
    """Praise (1) or blame (0): "the plot is witty", "the plot is not dull"; blame is at fault."""
    negated = chance(rng, 0.3)
    praise = (sign == 1) != negated
    concept = 2 * int(rng.integers(len(OPINIONS) // 2)) + (0 if praise else 1)
    tokens = [
        Token("the"),
        Token(synonym(rng, choice(rng, ASPECTS))),
        Token("is"),
        *([Token("not", "opinion")] if negated else []),
        Token(synonym(rng, OPINIONS[concept]), "opinion"),
    ]
    return tokens if sign == 1 else blame(tokens, "opinion")


def paraphrase(rng: Rng, label: int) -> Example:
    """mrpc: do two texts state the same facts? 0 different, 1 same."""
    first = random_clauses(rng, 1 + int(chance(rng, 0.3)))
    told = list(first)
    if label == 0:
        told[0] = _contradict(rng, first[0], first[1:])
    sentences = [
        blame_changes(express(rng, clause), clause, true)
        for clause, true in zip(told, first, strict=True)
    ]
    order = rng.permutation(len(sentences))
    second = join(rng, [sentences[index] for index in order], ("and", "while", "."))
    return passage(rng, _shuffled(rng, first)), second


def duplicate(rng: Rng, label: int) -> Example:
    """qqp: do two questions ask the same? 0 different, 1 same."""
    words = ("why", "when", "where", "how")
    word = other_word = choice(rng, words)
    (fact,) = random_clauses(rng, 1)
    other = fact
    if label == 0 and chance(rng, 0.2):
        other_word = choice(rng, [another for another in words if another != word])
    elif label == 0:
        other = _contradict(rng, fact, [])
    second = blame_changes(express(rng, other, question=other_word), other, fact)
    if other_word != word:
        second = blame(second, "question")
    return _stop(express(rng, fact, question=word), "?"), _stop(second, "?")


def similarity(rng: Rng, label: int) -> Example:
    """stsb: two facts that share `label` (0 to 5) of agent, its trait, verb, patient and place."""
    (fact,) = random_clauses(rng, 1)
    fact = replace(fact, patient_trait=None, negated=False)
    for slot in ("agent_trait", "place"):
        fact = substitute(rng, replace(fact, **{slot: None}), slot)
    other = fact
    slots = fact.filled()
    for index in rng.permutation(len(slots))[label:]:
        other = substitute(rng, other, slots[index], [fact])
    return _stop(express(rng, fact)), _stop(blame_changes(express(rng, other), other, fact))


def inference(nouns: range) -> Draw:
    """mnli in the genre of some nouns: 0 entailment, 1 neutral, 2 contradiction."""

    def draw(rng: Rng, label: int) -> Example:
        facts = _facts(rng, nouns)
        told = weaken(rng, facts[0])
        true = told
        if label == 1:
            slot = choice(rng, DETAILS)
            told = substitute(rng, replace(told, **{slot: None}), slot, facts)
        elif label == 2 and chance(rng, 0.5):
            told = replace(told, negated=not told.negated)
        elif label == 2:
            told = opposite(told, "verb")
        hypothesis = blame_changes(express(rng, told, hypernym=0.1), told, true)
        return passage(rng, _shuffled(rng, facts)), _stop(hypothesis)

    return draw


def answerable(rng: Rng, label: int) -> Example:
    """qnli: does the passage answer the question? 0 entailment, 1 not_entailment."""
    facts = [replace(fact, negated=False) for fact in _facts(rng)]
    asked, known = ("agent", "patient") if chance(rng, 0.5) else ("patient", "agent")
    true = replace(facts[0], agent_trait=None, patient_trait=None, place=None)
    told = true
    if label == 1:
        told = substitute(rng, told, choice(rng, ("verb", known)), facts[1:])
    question = None if asked == "agent" else "what"
    tokens = blame_changes(express(rng, told, passive=0.0, question=question), told, true)
    verb = next(index for index, token in enumerate(tokens) if token.slot == "verb")
    query = [Token("who"), *tokens[verb:]] if asked == "agent" else tokens[: verb + 1]
    return _stop(query, "?"), passage(rng, _shuffled(rng, facts))


def entailment(rng: Rng, label: int) -> Example:
    """rte: does the hypothesis follow from the premise? 0 entailment, 1 not_entailment."""
    facts = _facts(rng)
    true = weaken(rng, facts[0])
    told = true if label == 0 else _contradict(rng, true, facts[1:])
    hypothesis = blame_changes(express(rng, told, hypernym=0.1), told, true)
    return passage(rng, _shuffled(rng, facts)), _stop(hypothesis)


def pronoun(rng: Rng, label: int) -> Example:
    """wnli: is the pronoun's referent the one that is named? 0 not_entailment, 1 entailment.

    "the fox chases the dog because it is ...": a strength is the agent's, a weakness the patient's.
    """
    (fact,) = random_clauses(rng, 1)
    fact = replace(fact, agent_trait=None, patient_trait=None, negated=False)
    trait = int(rng.integers(len(TRAITS)))
    referent, other = ("agent", "patient") if trait % 2 == 0 else ("patient", "agent")
    named = fact.value(referent if label == 1 else other)
    adjective = Token(synonym(rng, TRAITS[trait]))
    reason = [Token("because"), Token("it"), Token("is"), adjective]
    noun = Token(synonym(rng, NOUNS[named]), fault=label == 0)
    claim = [Token("the"), noun, Token("is"), adjective]
    return _stop([*express(rng, fact), *reason]), _stop(claim)


def _one_split(draw: Draw) -> Mapping[str, Draw]:
    return MappingProxyType({"validation": draw})


_GENRES = {"validation_matched": range(20), "validation_mismatched": range(20, len(NOUNS))}
TASKS: Mapping[str, DemoTask] = MappingProxyType(
    {
        "cola": DemoTask(_one_split(acceptability), (0.3, 0.7)),
        "sst2": DemoTask(_one_split(sentiment), (0.5, 0.5)),
        "mrpc": DemoTask(_one_split(paraphrase), (0.32, 0.68)),
        "qqp": DemoTask(_one_split(duplicate), (0.63, 0.37)),
        "stsb": DemoTask(_one_split(similarity), (1 / 6,) * 6, is_score=True),
        "mnli": DemoTask(
            MappingProxyType({split: inference(nouns) for split, nouns in _GENRES.items()}),
            (1 / 3, 1 / 3, 1 / 3),
        ),
        "qnli": DemoTask(_one_split(answerable), (0.5, 0.5)),
        "rte": DemoTask(_one_split(entailment), (0.5, 0.5)),
        "wnli": DemoTask(_one_split(pronoun), (0.5, 0.5)),
    }
)


def generate(
    task: str, seed: int = 0, *, train_size: int = 1200, validation_size: int = 800
) -> dict[str, DemoSplit]:
    """The splits of a task: "train" and "validation" (mnli: "validation_matched" and
    "validation_mismatched").

    The same task, seed and sizes always give the same splits; no example is in them twice. Raises
    KeyError for a task that is not in `TASKS`.
    """
    kind = TASKS[task]
    rng = np.random.default_rng([list(TASKS).index(task), seed])
    seen: set[tuple[str, ...]] = set()
    train_draw = next(iter(kind.draws.values()))
    train = _draw_split(rng, kind, train_draw, train_size, seen)
    splits = {"train": replace(train, labels=_annotate(rng, kind, train.labels))}
    for name, draw in kind.draws.items():
        splits[name] = _draw_split(rng, kind, draw, validation_size, seen)
    return splits


def vocabulary() -> tuple[str, ...]:
    """All words and stops that a text may hold, in a fixed order."""
    return tuple(word.text for word in LEXICON)


def text(tokens: Sentence) -> str:
    """The words, separated by single spaces."""
    return " ".join(token.word for token in tokens)


def _draw_split(
    rng: Rng, kind: DemoTask, draw: Draw, size: int, seen: set[tuple[str, ...]]
) -> DemoSplit:
    """`size` examples that are not in `seen`, which grows by them."""
    ends = np.rint(np.cumsum(kind.shares) * size).astype(np.int64)
    labels = rng.permutation(np.searchsorted(ends, np.arange(size), side="right"))
    texts = []
    for label in labels:
        while (example := tuple(map(text, draw(rng, int(label))))) in seen:
            continue
        seen.add(example)
        texts.append(example)
    return DemoSplit(tuple(texts), labels.astype(np.float32 if kind.is_score else np.int64))


def _annotate(rng: Rng, kind: DemoTask, labels: Labels) -> Labels:
    """The labels as an annotator gives them: some are wrong, scores are blurred."""
    if kind.is_score:
        blurred = labels + rng.normal(scale=1.0, size=len(labels))
        return np.clip(blurred, 0.0, 5.0).astype(np.float32)
    wrong = rng.random(len(labels)) < NOISE
    shift = rng.integers(1, len(kind.shares), size=len(labels))
    return np.where(wrong, (labels + shift) % len(kind.shares), labels).astype(np.int64)
