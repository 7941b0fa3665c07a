"""The demo's data sets: schema, determinism, balance, lengths and noise."""

import hashlib
import re
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from harness.demo.examples import DemoSplit, generate, vocabulary
from harness.demo.lexicon import LEXICON
from harness.demo.tasks import TASKS

PINNED = {
    "cola": "16b7fb8351585e8c",
    "sst2": "a7d374e19a274cfe",
    "mrpc": "c4739c6271cd7eb7",
    "qqp": "e1f1b314096fd765",
    "stsb": "3c14edaab4ca78b3",
    "mnli": "db367aed4b0c702e",
    "qnli": "d7d7f88bc55561a0",
    "rte": "4880b944e398bfde",
    "wnli": "32984ab8d019fcb5",
}
"""The first digits of a digest over texts and labels."""
SINGLE_SENTENCE = {"cola", "sst2"}


@pytest.fixture(scope="module")
def data() -> dict[str, dict[str, DemoSplit]]:
    return {task: generate(task) for task in TASKS}


def digest(splits: dict[str, DemoSplit]) -> str:
    lines = [
        "\t".join([name, *texts, str(label)])
        for name, split in splits.items()
        for texts, label in zip(split.texts, split.labels.tolist(), strict=True)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("task", TASKS)
def test_schema(task, data):
    splits = data[task]
    evaluation = (
        {"validation_matched", "validation_mismatched"} if task == "mnli" else {"validation"}
    )
    assert set(splits) == {"train", *evaluation, "selection"}
    for split in splits.values():
        assert len(split.texts) == len(split.labels)
        assert {len(texts) for texts in split.texts} == {1 if task in SINGLE_SENTENCE else 2}
        assert split.labels.dtype == (np.float32 if task == "stsb" else np.int64)


@pytest.mark.parametrize("task", [task for task in TASKS if task != "stsb"])
def test_labels_are_balanced_as_stated(task, data):
    shares = np.array(TASKS[task].shares)
    noise = TASKS[task].noise
    noisy = (1 - noise) * shares + noise * (1 - shares) / (len(shares) - 1)
    for name, split in data[task].items():
        found = np.bincount(split.labels, minlength=len(shares)) / len(split.labels)
        if name == "train":
            np.testing.assert_allclose(found, noisy, atol=0.04)
        else:
            np.testing.assert_allclose(found, shares, atol=0.01)


def test_scores_are_spread_over_their_range_and_noisy_in_training(data, monkeypatch):
    scores = data["stsb"]["validation"].labels
    assert set(scores.tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
    noisy = data["stsb"]["train"].labels
    assert noisy.min() >= 0.0
    assert noisy.max() <= 5.0
    assert len(set(noisy.tolist())) > 100
    monkeypatch.setattr("harness.demo.examples.SCORE_NOISE", 0.0)
    assert set(generate("stsb")["train"].labels.tolist()) == {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}


@pytest.mark.parametrize("task", [task for task in TASKS if task != "stsb"])
def test_noise_is_in_the_training_labels_only(task, data, monkeypatch):
    noise = TASKS[task].noise
    assert 0.05 < noise < 0.45
    noiseless = {name: replace(kind, noise=0.0) for name, kind in TASKS.items()}
    monkeypatch.setattr("harness.demo.examples.TASKS", noiseless)
    true = generate(task)
    assert data[task]["train"].texts == true["train"].texts
    wrong = np.mean(data[task]["train"].labels != true["train"].labels)
    assert wrong == pytest.approx(noise, abs=0.04)
    for name in true.keys() - {"train"}:
        np.testing.assert_array_equal(data[task][name].labels, true[name].labels)


@pytest.mark.parametrize("task", TASKS)
def test_no_example_is_drawn_twice(task, data):
    examples = list(chain.from_iterable(split.texts for split in data[task].values()))
    assert len(set(examples)) == len(examples)


@pytest.mark.parametrize("task", TASKS)
def test_lengths_vary_and_fit(task, data):
    texts = chain.from_iterable(split.texts for split in data[task].values())
    lengths = [sum(len(text.split()) for text in example) for example in texts]
    assert min(lengths) >= 4
    assert max(lengths) <= 60
    assert max(lengths) >= min(lengths) + 4


@pytest.mark.parametrize("task", TASKS)
def test_every_word_is_in_the_vocabulary(task, data):
    texts = chain.from_iterable(split.texts for split in data[task].values())
    words = {word for example in texts for text in example for word in text.split()}
    assert words <= set(vocabulary())


def test_vocabulary_has_no_word_twice():
    assert len(set(vocabulary())) == len(vocabulary())


@pytest.mark.parametrize(("task", "pinned"), PINNED.items())
def test_generation_is_the_same_everywhere(task, pinned, data):
    assert digest(data[task])[:16] == pinned


def test_the_referent_of_a_pronoun_tells_the_label(data):
    concepts = {word.text: word.concept for word in LEXICON}
    forms = {word.text: word.form for word in LEXICON}
    split = data["wnli"]["validation"]
    for (text, claim), label in zip(split.texts, split.labels, strict=True):
        told, reason = text.split(" because ")
        clause = re.split(r" (?:and|while|\.) ", told)[-1]
        agent, patient = (part.split()[0] for part in clause.split("the ")[1:])
        pronoun, _, trait = reason.split()[:3]
        number = "plural" if pronoun == "they" else "singular"
        (referent,) = [noun for noun in (agent, patient) if forms[noun] == number]
        _, named, _, claimed, _ = claim.split()
        follows = named == referent and concepts[claimed] == concepts[trait]
        assert follows == (label == 1), (text, claim)


def test_generation_ignores_and_keeps_the_global_random_state():
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    first = generate("wnli")
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert digest(first) == digest(generate("wnli"))


def test_seeds_differ():
    assert digest(generate("wnli", seed=0)) != digest(generate("wnli", seed=1))


def test_sizes_are_as_asked():
    splits = generate("mnli", train_size=30, validation_size=12, selection_size=6)
    assert {name: len(split.texts) for name, split in splits.items()} == {
        "train": 30,
        "validation_matched": 12,
        "validation_mismatched": 12,
        "selection": 6,
    }


def test_the_selection_split_changes_no_other_split():
    without = generate("wnli", selection_size=0)
    assert set(without) == {"train", "validation"}
    splits = generate("wnli")
    assert digest(without) == digest({name: splits[name] for name in without})


def test_unknown_task_is_a_key_error():
    with pytest.raises(KeyError, match="squad"):
        generate("squad")


@pytest.mark.parametrize(
    ("task", "sound_label"),
    [("cola", 1), ("mrpc", 1), ("qqp", 1), ("rte", 0), ("qnli", 0), ("wnli", 1)],
)
def test_words_at_fault_mark_the_label(task, sound_label):
    rng = np.random.default_rng(0)
    (draw,) = TASKS[task].draws.values()
    for label in (0, 1) * 50:
        faults = any(token.fault for sentence in draw(rng, label) for token in sentence)
        assert faults == (label != sound_label)
