"""The demo's lexicon: concepts with their synonyms, opposites, hypernyms and word forms."""

from collections.abc import Iterable
from typing import NamedTuple

# One string is one concept; the words of a string are synonyms. The keys are hypernyms of the nouns.
NOUN_KINDS: dict[str, tuple[str, ...]] = {
    "person human": (
        "doctor physician",
        "lawyer attorney",
        "teacher tutor",
        "child kid",
        "thief robber",
        "soldier warrior",
        "king monarch",
        "sailor mariner",
        "author writer",
        "cook chef",
    ),
    "animal creature": (
        "dog hound",
        "cat feline",
        "horse steed",
        "rabbit hare",
        "pig hog",
        "donkey mule",
        "snake serpent",
        "bird fowl",
        "frog toad",
        "monkey ape",
    ),
    "vehicle conveyance": (
        "car automobile",
        "boat ship",
        "bicycle bike",
        "truck lorry",
        "plane aeroplane",
        "train tram",
    ),
    "object thing": (
        "stone rock",
        "cup mug",
        "hat cap",
        "gift present",
        "sofa couch",
        "picture image",
        "bag sack",
        "coat jacket",
        "lamp lantern",
        "carpet rug",
    ),
}
# Neighbours (0 and 1, 2 and 3, ...) are opposites in the next three tables.
VERBS = (
    "help aid",
    "harm damage",
    "chase pursue",
    "await expect",
    "admire respect",
    "hate detest",
    "defend protect",
    "attack assault",
    "push shove",
    "pull tow",
    "clean wash",
    "soil stain",
    "follow trail",
    "steer guide",
    "welcome greet",
    "reject refuse",
)
TRAITS = (
    "big large",
    "small little",
    "rich wealthy",
    "poor needy",
    "fast quick",
    "slow sluggish",
    "happy glad",
    "sad unhappy",
    "brave bold",
    "timid fearful",
    "loud noisy",
    "quiet silent",
    "strong sturdy",
    "weak feeble",
    "old aged",
    "young youthful",
)
OPINIONS = (
    "good superb",
    "bad awful",
    "charming delightful",
    "dreary tedious",
    "fresh original",
    "stale tired",
    "moving touching",
    "cold hollow",
    "witty funny",
    "dull boring",
    "clever smart",
    "foolish silly",
)
ASPECTS = (
    "film movie",
    "plot story",
    "cast crew",
    "dialogue script",
    "music score",
    "ending finale",
)
PLACES = (
    "river stream",
    "garden yard",
    "forest wood",
    "market bazaar",
    "castle fortress",
    "harbour port",
    "road street",
    "hill mound",
)
NOUNS: tuple[str, ...] = tuple(noun for nouns in NOUN_KINDS.values() for noun in nouns)
HYPERNYMS: tuple[str, ...] = tuple(kind for kind, nouns in NOUN_KINDS.items() for _ in nouns)
FUNCTION_WORDS = [
    "the",
    "a",
    "an",
    "is",
    "does",
    "do",
    "not",
    "by",
    "near",
    "and",
    "while",
    "but",
    "because",
    "it",
    "they",
    "are",
    ".",
    "?",
    "who",
    "what",
    "where",
    "why",
    "when",
    "how",
]


NUMBERS = {
    **dict.fromkeys(("does", "is", "it"), "singular"),
    **dict.fromkeys(("do", "are", "they"), "plural"),
}


def third_person(verb: str) -> str:
    """The verb's form after a singular subject: chase -> chases, wash -> washes."""
    return verb + ("es" if verb.endswith(("ch", "sh", "ss")) else "s")


def participle(verb: str) -> str:
    """The verb's passive form: chase -> chased, wash -> washed."""
    return verb + ("d" if verb.endswith("e") else "ed")


def plural(noun: str) -> str:
    """The noun's plural: dog -> dogs, lorry -> lorries, child -> children."""
    exceptions = {"child": "children", "thief": "thieves"}
    if noun in exceptions:
        return exceptions[noun]
    if noun.endswith("y") and noun[-2] not in "aeou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("x", "ch", "sh", "ss")) else "s")


def noun_form(noun: str, is_plural: bool) -> str:
    """The noun in the singular or the plural."""
    return plural(noun) if is_plural else noun


def verb_form(verb: str, is_plural: bool) -> str:
    """The verb as it agrees with a plural subject or a singular one."""
    return verb if is_plural else third_person(verb)


def copula(is_plural: bool) -> str:
    """The form of "to be" that agrees with the subject."""
    return "are" if is_plural else "is"


class Word(NamedTuple):
    """A word with its place in the lexicon: the concept, the kind and the form."""

    text: str
    concept: str
    kind: str
    form: str


def _words() -> Iterable[Word]:
    for kind, nouns in NOUN_KINDS.items():
        for concept in (*nouns, kind):
            for word in concept.split():
                yield Word(word, concept, kind, "singular")
                yield Word(plural(word), concept, kind, "plural")
    for concept in VERBS:
        for word in concept.split():
            yield Word(word, concept, "verb", "plural")
            yield Word(third_person(word), concept, "verb", "singular")
            yield Word(participle(word), concept, "verb", "participle")
    for kind, concepts in {"trait": TRAITS, "aspect": ASPECTS, "place": PLACES}.items():
        for concept in concepts:
            for word in concept.split():
                yield Word(word, concept, kind, "plain")
    for index, concept in enumerate(OPINIONS):
        for word in concept.split():
            yield Word(word, concept, ("praise", "blame")[index % 2], "plain")
    for word in FUNCTION_WORDS:
        yield Word(word, word, "function", NUMBERS.get(word, "plain"))


LEXICON: tuple[Word, ...] = tuple(_words())
