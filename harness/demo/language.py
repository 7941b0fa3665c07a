"""The demo's language: clauses over the lexicon, and the odd English sentences that express them.

A clause is a fact ("the old dog chases a cat near the river"). The slots of a clause hold concepts,
and a concept has several words. So one clause has many sentences, with other synonyms, in the active
or the passive voice. Two sentences can mean the same without a common content word.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from harness.demo.lexicon import (
    HYPERNYMS,
    NOUNS,
    PLACES,
    TRAITS,
    VERBS,
    noun_form,
    participle,
    third_person,
    verb_form,
)

TABLES: dict[str, tuple[str, ...]] = {
    "agent": NOUNS,
    "agent_trait": TRAITS,
    "verb": VERBS,
    "patient": NOUNS,
    "patient_trait": TRAITS,
    "place": PLACES,
}
JOINTS = ("and", "while", ".")
DETAILS = ("agent_trait", "patient_trait", "place")

Item = TypeVar("Item")


@dataclass(frozen=True)
class Clause:
    """One fact. A slot holds an index into the slot's table in `TABLES`, or None if the slot is open."""

    agent: int
    verb: int
    patient: int
    agent_trait: int | None = None
    patient_trait: int | None = None
    place: int | None = None
    negation: bool = False

    def filled_slots(self) -> list[str]:
        """Names of the slots that hold a concept, in a fixed order."""
        return [slot for slot in TABLES if getattr(self, slot) is not None]

    def value(self, slot: str) -> int:
        """The concept in a filled slot."""
        value = getattr(self, slot)
        assert isinstance(value, int), f"slot {slot} is empty"
        return value

    def with_concept(self, slot: str, concept: int | None) -> "Clause":
        """The same fact with another concept in one slot, or with an open slot (None)."""
        change: dict[str, Any] = {slot: concept}
        return replace(self, **change)


class Token(NamedTuple):
    """A word of a sentence, and the slot of the clause that the word expresses.

    The slot of a function word is None. A word is at fault if the word makes two texts differ, or a
    sentence unacceptable.
    """

    word: str
    slot: str | None = None
    fault: bool = False


Sentence = list[Token]


def chance(rng: np.random.Generator, probability: float) -> bool:
    """One biased coin."""
    return bool(rng.random() < probability)


def choice(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    """One item, all equally likely."""
    return items[int(rng.integers(len(items)))]


def synonym(rng: np.random.Generator, concept: str) -> str:
    """One of the words of a concept."""
    return choice(rng, concept.split())


def random_clauses(
    rng: np.random.Generator, count: int, nouns: Sequence[int] = range(len(NOUNS))
) -> list[Clause]:
    """Draw facts in which no concept and no pair of opposites occurs twice.

    `nouns` are the indices of the nouns to draw, at least 2 * count. `count` is at most 4.
    """

    def one_of_each_pair(table: tuple[str, ...]) -> list[int]:
        pairs = rng.permutation(len(table) // 2)
        return [int(2 * pair + rng.integers(2)) for pair in pairs]

    names = [int(noun) for noun in rng.permutation(np.asarray(nouns))]
    verbs, places = one_of_each_pair(VERBS), one_of_each_pair(PLACES)
    traits = one_of_each_pair(TRAITS)
    return [
        Clause(
            agent=names[2 * index],
            verb=verbs[index],
            patient=names[2 * index + 1],
            agent_trait=traits[2 * index] if chance(rng, 0.5) else None,
            patient_trait=traits[2 * index + 1] if chance(rng, 0.3) else None,
            place=places[index] if chance(rng, 0.3) else None,
            negation=chance(rng, 0.15),
        )
        for index in range(count)
    ]


def weaken(rng: np.random.Generator, clause: Clause) -> Clause:
    """A clause that follows from `clause`: each detail is left out with probability 1/2.

    A negated clause stays as it is: who does not chase the old dog may chase the dog.
    """
    if clause.negation:
        return clause
    for slot in DETAILS:
        if chance(rng, 0.5):
            clause = clause.with_concept(slot, None)
    return clause


def substitute(
    rng: np.random.Generator, clause: Clause, slot: str, others: Sequence[Clause] = ()
) -> Clause:
    """`clause` with a concept in `slot` that no slot of `clause` and `others` holds."""
    table = TABLES[slot]
    concepts = {
        holder.value(name)
        for holder in (clause, *others)
        for name in holder.filled_slots()
        if TABLES[name] is table
    }
    candidates = [concept for concept in range(len(table)) if concept not in concepts]
    return clause.with_concept(slot, choice(rng, candidates))


def reverse_verb(clause: Clause) -> Clause:
    """The clause with the opposite verb."""
    return replace(clause, verb=clause.verb ^ 1)


def mark_slots(tokens: Sentence, *slots: str) -> Sentence:
    """The sentence with the words of these slots at fault."""
    return [token._replace(fault=token.fault or token.slot in slots) for token in tokens]


def mark_changes(tokens: Sentence, claim: Clause, fact: Clause) -> Sentence:
    """The sentence that expresses `claim`; the words that differ from `fact` are at fault."""
    names = [field.name for field in fields(Clause)]
    changes = [name for name in names if getattr(claim, name) != getattr(fact, name)]
    return mark_slots(tokens, *changes, *(["verb"] if "negation" in changes else []))


def _noun_phrase(
    rng: np.random.Generator, clause: Clause, noun: str, trait: str, hypernym_probability: float
) -> Sentence:
    names = HYPERNYMS if chance(rng, hypernym_probability) else NOUNS
    tokens = [Token(synonym(rng, names[clause.value(noun)]), noun)]
    if trait in clause.filled_slots():
        tokens.insert(0, Token(synonym(rng, TRAITS[clause.value(trait)]), trait))
    article = "an" if tokens[0].word[0] in "aeiou" else "a"
    return [Token("the" if chance(rng, 0.7) else article), *tokens]


def express(
    rng: np.random.Generator,
    clause: Clause,
    *,
    passive_probability: float = 0.3,
    hypernym_probability: float = 0.0,
    question: str | None = None,
) -> Sentence:
    """A clause in words, without its final stop.

    Each content word is drawn among its synonyms. A noun's kind replaces the noun with
    `hypernym_probability`. `question` is the first word of a question ("why does the dog chase the
    cat").
    """
    agent = _noun_phrase(rng, clause, "agent", "agent_trait", hypernym_probability)
    patient = _noun_phrase(rng, clause, "patient", "patient_trait", hypernym_probability)
    verb = synonym(rng, VERBS[clause.verb])
    negation = [Token("not", "negation")] if clause.negation else []
    if chance(rng, passive_probability):
        subject, auxiliary, action = patient, "is", [Token(participle(verb), "verb"), Token("by")]
        rest = agent
    elif clause.negation or question:
        subject, auxiliary, action, rest = agent, "does", [Token(verb, "verb")], patient
    else:
        subject, auxiliary, action, rest = agent, "", [Token(third_person(verb), "verb")], patient
    if question:
        tokens = [
            Token(question, "question"),
            Token(auxiliary),
            *subject,
            *negation,
            *action,
            *rest,
        ]
    else:
        auxiliary_tokens = [Token(auxiliary)] if auxiliary else []
        tokens = [*subject, *auxiliary_tokens, *negation, *action, *rest]
    if clause.place is not None:
        tokens += [Token("near"), Token("the"), Token(synonym(rng, PLACES[clause.place]), "place")]
    return tokens


def join(
    rng: np.random.Generator, sentences: Sequence[Sentence], joints: Sequence[str]
) -> Sentence:
    """One text: the sentences with one of `joints` between any two neighbours, and a full stop."""
    tokens = list(sentences[0])
    for sentence in sentences[1:]:
        tokens += [Token(choice(rng, joints)), *sentence]
    return [*tokens, Token(".")]


def text(tokens: Sentence) -> str:
    """The words, separated by single spaces."""
    return " ".join(token.word for token in tokens)


def passage(rng: np.random.Generator, clauses: Sequence[Clause]) -> Sentence:
    """Several clauses in one text, joined by "and", "while" or a full stop."""
    return join(rng, [express(rng, clause) for clause in clauses], JOINTS)


def agreeing_sentence(rng: np.random.Generator) -> Sentence:
    """A grammatical sentence: subject and verb (slot "verb") agree in number.

    A noun between subject and verb may have the other number ("the dogs near the boat chase a cat").
    """

    def noun_phrase(is_plural: bool) -> Sentence:
        noun = synonym(rng, choice(rng, NOUNS))
        trait = [Token(synonym(rng, choice(rng, TRAITS)))] if chance(rng, 0.4) else []
        return [Token("the"), *trait, Token(noun_form(noun, is_plural))]

    is_plural = chance(rng, 0.5)
    verb = synonym(rng, choice(rng, VERBS))
    tokens = noun_phrase(is_plural)
    if chance(rng, 0.25):
        tokens += [Token("near"), *noun_phrase(chance(rng, 0.5))]
    if chance(rng, 0.25):
        tokens += [Token("do" if is_plural else "does", "auxiliary"), Token("not")]
        tokens += [Token(verb, "verb")]
    else:
        tokens += [Token(verb_form(verb, is_plural), "verb")]
    return [*tokens, *noun_phrase(chance(rng, 0.5))]
