"""The draws of the demo's tasks: a label goes in, sentences come out.

Every public function draws one example of one GLUE task. The words that make the difference (a changed
fact, a verb in the wrong number) carry `Token.fault`. A data set leaves this mark out; the demo's
pre-training learns from the mark.
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
    passage,
    random_clauses,
    reverse_verb,
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
    """The draws and the labels of one task.

    draws: for each evaluation split, the function that draws an example with a given label. The first
        function draws the training split too.
    shares: shares of the labels 0, 1, ... in every split, with sum 1.
    noise: share of the training labels that another class replaces. Scores do not use this field; their
        noise is `harness.demo.examples.SCORE_NOISE`.
    is_score: whether label k is the score k (stsb), not a class.
    """

    draws: Mapping[str, Draw]
    shares: tuple[float, ...]
    noise: float = 0.22
    is_score: bool = False


def _contradict(rng: Rng, clause: Clause, others: list[Clause]) -> Clause:
    """A clause that follows neither from `clause` nor from the other clauses of the same passage."""
    changes = ("new", "opposite", "borrowed", "negation", "roles")
    change = changes[int(rng.choice(len(changes), p=[0.6, 0.12, 0.12, 0.1, 0.06]))]
    if change == "opposite":
        return reverse_verb(clause)
    if change == "negation":
        return replace(clause, negation=not clause.negation)
    if change == "roles":
        return replace(clause, agent=clause.patient, patient=clause.agent)
    if change == "borrowed" and others:
        slot = choice(rng, ("agent", "verb", "patient"))
        return clause.with_concept(slot, choice(rng, others).value(slot))
    return substitute(rng, clause, choice(rng, clause.filled_slots()), others)


def _facts(rng: Rng, nouns: range = range(len(NOUNS))) -> list[Clause]:
    """One fact, often two, rarely three."""
    return random_clauses(rng, int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1])), nouns)


def _shuffle(rng: Rng, items: list[Item]) -> list[Item]:
    return [items[index] for index in rng.permutation(len(items))]


def _stop(tokens: Sentence, stop: str = ".") -> Sentence:
    return [*tokens, Token(stop)]


def acceptability(rng: Rng, label: int) -> Example:
    """cola: 0 unacceptable, 1 acceptable."""
    tokens = agreeing_sentence(rng)
    return (_stop(tokens if label == 1 else _disturb(rng, tokens)),)


def _disturb(rng: Rng, tokens: Sentence) -> Sentence:
    """The sentence with a fault: a verb in the wrong number, a noun for the verb, or the verb twice."""
    draw = rng.random()
    verb = next(index for index, token in enumerate(tokens) if token.slot == "verb")
    if draw < 0.35:
        position = next(index for index, token in enumerate(tokens) if token.slot in FINITE_SLOTS)
        wrong_form = Token(OTHER_NUMBER[tokens[position].word], fault=True)
        return [*tokens[:position], wrong_form, *tokens[position + 1 :]]
    if draw < 0.7:
        noun = Token(synonym(rng, choice(rng, NOUNS)), fault=True)
        return [*tokens[:verb], noun, *tokens[verb + 1 :]]
    return [*tokens, tokens[verb]._replace(fault=True)]


FINITE_SLOTS = ("auxiliary", "verb")


def _finite_forms() -> dict[str, str]:
    """The plural form of each singular form and the reverse: chases <-> chase."""
    plurals = [word.text for word in LEXICON if (word.kind, word.form) == ("verb", "plural")]
    pairs = [("does", "do"), *((third_person(plural), plural) for plural in plurals)]
    return dict([*pairs, *((plural, singular) for singular, plural in pairs)])


OTHER_NUMBER = _finite_forms()


def sentiment(rng: Rng, label: int) -> Example:
    """sst2: 0 negative, 1 positive: the sense of the remarks, or of the remarks after a "but"."""
    verdicts = [_remark(rng, label) for _ in range(int(rng.integers(1, 3)))]
    if label == 0:
        verdicts = [mark_slots(remark, "opinion") for remark in verdicts]
    concessions = [_remark(rng, 1 - label) for _ in range(int(rng.integers(3)))]
    tokens: Sentence = []
    for position, remark in enumerate([*concessions, *verdicts]):
        if position > 0:
            turns = position == len(concessions)
            tokens.append(Token("but" if turns else choice(rng, ("and", "."))))
        tokens += remark
    return (_stop(tokens),)


def _remark(rng: Rng, sign: int) -> Sentence:
    """Praise (1) or blame (0): "the plot is witty", "the plot is not dull"."""
    is_negated = chance(rng, 0.3)
    praise = (sign == 1) != is_negated
    concept = 2 * int(rng.integers(len(OPINIONS) // 2)) + (0 if praise else 1)
    return [
        Token("the"),
        Token(synonym(rng, choice(rng, ASPECTS))),
        Token("is"),
        *([Token("not", "opinion")] if is_negated else []),
        Token(synonym(rng, OPINIONS[concept]), "opinion"),
    ]


def paraphrase(rng: Rng, label: int) -> Example:
    """mrpc: do two texts state the same facts? 0 different, 1 same."""
    facts = random_clauses(rng, 1 + int(chance(rng, 0.3)))
    claims = list(facts)
    if label == 0:
        claims[0] = _contradict(rng, facts[0], facts[1:])
    sentences = [
        mark_changes(express(rng, claim), claim, fact)
        for claim, fact in zip(claims, facts, strict=True)
    ]
    second = join(rng, _shuffle(rng, sentences), JOINTS)
    return passage(rng, _shuffle(rng, facts)), second


def duplicate(rng: Rng, label: int) -> Example:
    """qqp: do two questions ask the same? 0 different, 1 same."""
    words = ("why", "when", "where", "how")
    word = other_word = choice(rng, words)
    (fact,) = random_clauses(rng, 1)
    claim = fact
    if label == 0 and chance(rng, 0.2):
        other_word = choice(rng, [candidate for candidate in words if candidate != word])
    elif label == 0:
        claim = _contradict(rng, fact, [])
    second = mark_changes(express(rng, claim, question=other_word), claim, fact)
    if other_word != word:
        second = mark_slots(second, "question")
    return _stop(express(rng, fact, question=word), "?"), _stop(second, "?")


def similarity(rng: Rng, label: int) -> Example:
    """stsb: two facts that share `label` (0 to 5) of agent, agent's trait, verb, patient and place."""
    (fact,) = random_clauses(rng, 1)
    fact = replace(fact, patient_trait=None, negation=False)
    for slot in ("agent_trait", "place"):
        fact = substitute(rng, fact.with_concept(slot, None), slot)
    claim = fact
    slots = fact.filled_slots()
    for index in rng.permutation(len(slots))[label:]:
        claim = substitute(rng, claim, slots[index], [fact])
    return _stop(express(rng, fact)), _stop(mark_changes(express(rng, claim), claim, fact))


def inference(nouns: range) -> Draw:
    """The draw of mnli in the genre of some nouns: 0 entailment, 1 neutral, 2 contradiction."""

    def draw(rng: Rng, label: int) -> Example:
        facts = _facts(rng, nouns)
        consequence = weaken(rng, facts[0])
        claim = consequence
        if label == 1:
            open_slots = [slot for slot in DETAILS if slot not in facts[0].filled_slots()]
            slot = choice(rng, open_slots) if open_slots and not consequence.negation else "agent"
            claim = substitute(rng, claim, slot, facts)
        elif label == 2 and (consequence.negation or chance(rng, 0.5)):
            claim = replace(claim, negation=not claim.negation)
        elif label == 2:
            claim = reverse_verb(claim)
        return passage(rng, _shuffle(rng, facts)), _hypothesis(rng, claim, consequence)

    return draw


def _hypothesis(rng: Rng, claim: Clause, fact: Clause) -> Sentence:
    """`claim` in words; the words that differ from `fact` are at fault.

    The name of a kind may replace a noun where the label stays the same: in a positive clause about the
    same nouns.
    """
    is_same = (claim.agent, claim.patient) == (fact.agent, fact.patient)
    hypernym = 0.1 if is_same and not (claim.negation or fact.negation) else 0.0
    return _stop(mark_changes(express(rng, claim, hypernym_probability=hypernym), claim, fact))


def answerability(rng: Rng, label: int) -> Example:
    """qnli: does the passage answer the question? 0 entailment, 1 not_entailment."""
    facts = [replace(fact, negation=False) for fact in _facts(rng)]
    role, other_role = ("agent", "patient") if chance(rng, 0.5) else ("patient", "agent")
    consequence = replace(facts[0], agent_trait=None, patient_trait=None, place=None)
    claim = consequence
    if label == 1:
        claim = substitute(rng, claim, choice(rng, ("verb", other_role)), facts[1:])
    question = None if role == "agent" else "what"
    tokens = mark_changes(
        express(rng, claim, passive_probability=0.0, question=question), claim, consequence
    )
    verb = next(index for index, token in enumerate(tokens) if token.slot == "verb")
    query = [Token("who"), *tokens[verb:]] if role == "agent" else tokens[: verb + 1]
    return _stop(query, "?"), passage(rng, _shuffle(rng, facts))


def entailment(rng: Rng, label: int) -> Example:
    """rte: does the hypothesis follow from the premise? 0 entailment, 1 not_entailment."""
    facts = _facts(rng)
    consequence = weaken(rng, facts[0])
    claim = consequence if label == 0 else _contradict(rng, consequence, facts[1:])
    return passage(rng, _shuffle(rng, facts)), _hypothesis(rng, claim, consequence)


def pronoun(rng: Rng, label: int) -> Example:
    """wnli: does the claim name the pronoun's referent? 0 not_entailment, 1 entailment.

    "the dogs chase the cat because they are old": one of agent and patient is plural, so the pronoun's
    number tells the referent. The verbs of reason and claim show the same numbers. A second clause, if
    there is one, states a trait of another noun. A claim that does not follow names the other of the two
    nouns, or sometimes another trait.
    """
    fact, other_fact = random_clauses(rng, 2)
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
    candidate = 1 - referent if wrong_noun else referent
    reason = f"{'they' if numbers[referent] else 'it'} {copula(numbers[referent])}"
    reason_clause = f"the {nouns[0]} {verb} the {nouns[1]} because {reason} {synonym(rng, trait)}"
    is_plural = chance(rng, 0.5)
    other_noun = noun_form(synonym(rng, NOUNS[other_fact.agent]), is_plural)
    remark = f"the {other_noun} {copula(is_plural)} {synonym(rng, other_trait)}"
    clauses = [reason_clause, remark] if chance(rng, 0.7) else [reason_clause]
    sentences = [[Token(word) for word in clause.split()] for clause in clauses]
    claim = [
        Token("the"),
        Token(nouns[candidate], fault=wrong_noun),
        Token(copula(numbers[candidate])),
        Token(synonym(rng, other_trait if wrong_trait else trait), fault=wrong_trait),
    ]
    return join(rng, _shuffle(rng, sentences), JOINTS), _stop(claim)


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
        "qnli": DemoTask(_one_split(answerability), (0.5, 0.5), noise=0.21),
        "rte": DemoTask(_one_split(entailment), (0.5, 0.5), noise=0.26),
        "wnli": DemoTask(_one_split(pronoun), (0.5, 0.5), noise=0.1),
    }
)
