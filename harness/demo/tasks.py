"""How the examples of the demo's tasks are drawn: a label goes in, sentences come out.

Every function here draws one example of one GLUE task. The words that make the difference (the
changed fact, the verb in the wrong number) carry `Token.fault`; a data set leaves that mark out, the
demo's pre-training learns from it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from harness.demo.language import (
    DETAILS,
    JOINTS,
    Clause,
    Item,
    Sentence,
    Token,
    agreeing_sentence,
    chance,
    choice,
    express,
    join,
    mark_changes,
    mark_slots,
    opposite,
    passage,
    random_clauses,
    substitute,
    synonym,
    weaken,
)
from harness.demo.lexicon import (
    ASPECTS,
    LEXICON,
    NOUNS,
    OPINIONS,
    TRAITS,
    VERBS,
    copula,
    noun_form,
    third_person,
    verb_form,
)

Rng = np.random.Generator
Example = tuple[Sentence, ...]
Draw = Callable[[Rng, int], Example]


@dataclass(frozen=True)
class DemoTask:
    """How the examples of one task are drawn.

    draws: for each evaluation split, the function that draws an example of a given label; the
        training split is drawn as the first of them.
    shares: of the labels 0, 1, ... in every split; they sum to 1.
    noise: share of the training labels that are replaced by another class; not read for scores,
        whose noise is `harness.demo.examples.SCORE_NOISE`.
    is_score: whether label k is the score k (stsb), not a class.
    """

    draws: Mapping[str, Draw]
    shares: tuple[float, ...]
    noise: float = 0.22
    is_score: bool = False


def _contradict(rng: Rng, clause: Clause, others: list[Clause]) -> Clause:
    """A clause that does not follow from `clause`, nor from the `others` of the same passage."""
    changes = ("new", "opposite", "borrowed", "negation", "roles")
    change = changes[int(rng.choice(len(changes), p=[0.6, 0.12, 0.12, 0.1, 0.06]))]
    if change == "opposite":
        return opposite(clause)
    if change == "negation":
        return replace(clause, negated=not clause.negated)
    if change == "roles":
        return replace(clause, agent=clause.patient, patient=clause.agent)
    if change == "borrowed" and others:
        slot = choice(rng, ("agent", "verb", "patient"))
        return clause.having(slot, choice(rng, others).value(slot))
    return substitute(rng, clause, choice(rng, clause.filled()), others)


def _facts(rng: Rng, nouns: range = range(len(NOUNS))) -> list[Clause]:
    """One fact, often two, rarely three."""
    return random_clauses(rng, int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1])), nouns)


def _shuffled(rng: Rng, items: list[Item]) -> list[Item]:
    return [items[index] for index in rng.permutation(len(items))]


def _stop(tokens: Sentence, stop: str = ".") -> Sentence:
    return [*tokens, Token(stop)]


def acceptability(rng: Rng, label: int) -> Example:
    """cola: 0 unacceptable, 1 acceptable."""
    tokens = agreeing_sentence(rng)
    return (_stop(tokens if label == 1 else _disturb(rng, tokens)),)


def _disturb(rng: Rng, tokens: Sentence) -> Sentence:
    """The sentence with a fault: the verb in the wrong number, a noun in its place, or twice."""
    fault = rng.random()
    verb = next(index for index, token in enumerate(tokens) if token.slot == "verb")
    if fault < 0.35:
        finite = next(index for index, token in enumerate(tokens) if token.slot in FINITE)
        wrong = Token(OTHER_NUMBER[tokens[finite].word], fault=True)
        return [*tokens[:finite], wrong, *tokens[finite + 1 :]]
    if fault < 0.7:
        noun = Token(synonym(rng, choice(rng, NOUNS)), fault=True)
        return [*tokens[:verb], noun, *tokens[verb + 1 :]]
    return [*tokens, tokens[verb]._replace(fault=True)]


FINITE = ("auxiliary", "verb")


def _finite_forms() -> dict[str, str]:
    """The plural form for each singular one and the other way round: chases <-> chase."""
    plurals = [word.text for word in LEXICON if (word.kind, word.form) == ("verb", "plural")]
    pairs = [("does", "do"), *((third_person(plural), plural) for plural in plurals)]
    return dict([*pairs, *((plural, singular) for singular, plural in pairs)])


OTHER_NUMBER = _finite_forms()


def sentiment(rng: Rng, label: int) -> Example:
    """sst2: 0 negative, 1 positive: what the remarks say, and where there is a "but" those after it."""
    valid = [_remark(rng, label) for _ in range(int(rng.integers(1, 3)))]
    if label == 0:
        valid = [mark_slots(remark, "opinion") for remark in valid]
    overruled = [_remark(rng, 1 - label) for _ in range(int(rng.integers(3)))]
    tokens: Sentence = []
    for position, remark in enumerate([*overruled, *valid]):
        if position > 0:
            turns = position == len(overruled)
            tokens.append(Token("but" if turns else choice(rng, ("and", "."))))
        tokens += remark
    return (_stop(tokens),)


def _remark(rng: Rng, sign: int) -> Sentence:
    """Praise (1) or blame (0): "the plot is witty", "the plot is not dull"."""
    negated = chance(rng, 0.3)
    praise = (sign == 1) != negated
    concept = 2 * int(rng.integers(len(OPINIONS) // 2)) + (0 if praise else 1)
    return [
        Token("the"),
        Token(synonym(rng, choice(rng, ASPECTS))),
        Token("is"),
        *([Token("not", "opinion")] if negated else []),
        Token(synonym(rng, OPINIONS[concept]), "opinion"),
    ]


def paraphrase(rng: Rng, label: int) -> Example:
    """mrpc: do two texts state the same facts? 0 different, 1 same."""
    first = random_clauses(rng, 1 + int(chance(rng, 0.3)))
    told = list(first)
    if label == 0:
        told[0] = _contradict(rng, first[0], first[1:])
    sentences = [
        mark_changes(express(rng, clause), clause, true)
        for clause, true in zip(told, first, strict=True)
    ]
    second = join(rng, _shuffled(rng, sentences), JOINTS)
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
    second = mark_changes(express(rng, other, question=other_word), other, fact)
    if other_word != word:
        second = mark_slots(second, "question")
    return _stop(express(rng, fact, question=word), "?"), _stop(second, "?")


def similarity(rng: Rng, label: int) -> Example:
    """stsb: two facts that share `label` (0 to 5) of agent, its trait, verb, patient and place."""
    (fact,) = random_clauses(rng, 1)
    fact = replace(fact, patient_trait=None, negated=False)
    for slot in ("agent_trait", "place"):
        fact = substitute(rng, fact.having(slot, None), slot)
    other = fact
    slots = fact.filled()
    for index in rng.permutation(len(slots))[label:]:
        other = substitute(rng, other, slots[index], [fact])
    return _stop(express(rng, fact)), _stop(mark_changes(express(rng, other), other, fact))


def inference(nouns: range) -> Draw:
    """mnli in the genre of some nouns: 0 entailment, 1 neutral, 2 contradiction."""

    def draw(rng: Rng, label: int) -> Example:
        facts = _facts(rng, nouns)
        true = weaken(rng, facts[0])
        told = true
        if label == 1:
            unsaid = [slot for slot in DETAILS if slot not in facts[0].filled()]
            slot = choice(rng, unsaid) if unsaid and not true.negated else "agent"
            told = substitute(rng, told, slot, facts)
        elif label == 2 and (true.negated or chance(rng, 0.5)):
            told = replace(told, negated=not told.negated)
        elif label == 2:
            told = opposite(told)
        return passage(rng, _shuffled(rng, facts)), _hypothesis(rng, told, true)

    return draw


def _hypothesis(rng: Rng, told: Clause, true: Clause) -> Sentence:
    """`told` in words, at fault where it differs from `true`. A noun may be named by its kind where
    that changes nothing in truth: in a positive clause about the same nouns."""
    is_same = (told.agent, told.patient) == (true.agent, true.patient)
    hypernym = 0.1 if is_same and not (told.negated or true.negated) else 0.0
    return _stop(mark_changes(express(rng, told, hypernym=hypernym), told, true))


def answerable(rng: Rng, label: int) -> Example:
    """qnli: does the passage answer the question? 0 entailment, 1 not_entailment."""
    facts = [replace(fact, negated=False) for fact in _facts(rng)]
    asked, known = ("agent", "patient") if chance(rng, 0.5) else ("patient", "agent")
    true = replace(facts[0], agent_trait=None, patient_trait=None, place=None)
    told = true
    if label == 1:
        told = substitute(rng, told, choice(rng, ("verb", known)), facts[1:])
    question = None if asked == "agent" else "what"
    tokens = mark_changes(express(rng, told, passive=0.0, question=question), told, true)
    verb = next(index for index, token in enumerate(tokens) if token.slot == "verb")
    query = [Token("who"), *tokens[verb:]] if asked == "agent" else tokens[: verb + 1]
    return _stop(query, "?"), passage(rng, _shuffled(rng, facts))


def entailment(rng: Rng, label: int) -> Example:
    """rte: does the hypothesis follow from the premise? 0 entailment, 1 not_entailment."""
    facts = _facts(rng)
    true = weaken(rng, facts[0])
    told = true if label == 0 else _contradict(rng, true, facts[1:])
    return passage(rng, _shuffled(rng, facts)), _hypothesis(rng, told, true)


def pronoun(rng: Rng, label: int) -> Example:
    """wnli: is the pronoun's referent the one that is named? 0 not_entailment, 1 entailment.

    "the dogs chase the cat because they are old": of agent and patient one is plural, which tells
    the referent; that the verbs of reason and claim agree is enough to see it. A clause beside it,
    where there is one, tells another noun's trait. A claim that does not follow names the other of
    the two nouns, or sometimes another trait.
    """
    fact, beside = random_clauses(rng, 2)
    numbers = choice(rng, ((False, True), (True, False)))
    nouns = [
        noun_form(synonym(rng, NOUNS[noun]), is_plural)
        for noun, is_plural in zip((fact.agent, fact.patient), numbers, strict=True)
    ]
    verb = verb_form(synonym(rng, VERBS[fact.verb]), numbers[0])
    trait, other_trait = (TRAITS[index] for index in rng.choice(len(TRAITS), 2, replace=False))
    wrong_trait = label == 0 and chance(rng, 0.25)
    wrong_noun = label == 0 and not wrong_trait
    referent = int(rng.integers(2))
    named = 1 - referent if wrong_noun else referent
    reason = f"{'they' if numbers[referent] else 'it'} {copula(numbers[referent])}"
    told = f"the {nouns[0]} {verb} the {nouns[1]} because {reason} {synonym(rng, trait)}"
    is_plural = chance(rng, 0.5)
    other = noun_form(synonym(rng, NOUNS[beside.agent]), is_plural)
    aside = f"the {other} {copula(is_plural)} {synonym(rng, other_trait)}"
    clauses = [told, aside] if chance(rng, 0.7) else [told]
    sentences = [[Token(word) for word in clause.split()] for clause in clauses]
    claim = [
        Token("the"),
        Token(nouns[named], fault=wrong_noun),
        Token(copula(numbers[named])),
        Token(synonym(rng, other_trait if wrong_trait else trait), fault=wrong_trait),
    ]
    return join(rng, _shuffled(rng, sentences), JOINTS), _stop(claim)


def _one_split(draw: Draw) -> Mapping[str, Draw]:
    return MappingProxyType({"validation": draw})


_GENRES = {"validation_matched": range(20), "validation_mismatched": range(20, len(NOUNS))}
TASKS: Mapping[str, DemoTask] = MappingProxyType(
    {
        "cola": DemoTask(_one_split(acceptability), (0.3, 0.7)),
        "sst2": DemoTask(_one_split(sentiment), (0.5, 0.5), noise=0.32),
        "mrpc": DemoTask(_one_split(paraphrase), (0.32, 0.68), noise=0.29),
        "qqp": DemoTask(_one_split(duplicate), (0.63, 0.37)),
        "stsb": DemoTask(_one_split(similarity), (1 / 6,) * 6, is_score=True),
        "mnli": DemoTask(
            MappingProxyType({split: inference(nouns) for split, nouns in _GENRES.items()}),
            (1 / 3, 1 / 3, 1 / 3),
            noise=0.31,
        ),
        "qnli": DemoTask(_one_split(answerable), (0.5, 0.5), noise=0.21),
        "rte": DemoTask(_one_split(entailment), (0.5, 0.5), noise=0.26),
        "wnli": DemoTask(_one_split(pronoun), (0.5, 0.5), noise=0.1),
    }
)
