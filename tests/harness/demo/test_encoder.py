"""The demo's encoder: folder, tokenizer, pre-training corpus and initialisation."""

from itertools import islice

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from harness.demo.encoder import (
    IGNORE_INDEX,
    STAGES,
    Stage,
    batches,
    build_tokenizer,
    draw_corpus,
    initial_encoder,
    stack,
    word_vectors,
    write_encoder,
    write_outline,
)
from harness.demo.examples import generate, vocabulary
from harness.demo.tasks import TASKS

BRIEF = (Stage(2, 2, (1e-3, 1e-3), 0.0), Stage(4, 2, (1e-3, 1e-4), 0.5))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "encoder"
    write_encoder(path, "rte", stages=BRIEF)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


def test_folder_loads_as_a_bert_encoder(folder):
    encoder = AutoModel.from_pretrained(folder)
    assert encoder.config.model_type == "bert"
    assert encoder.config.num_hidden_layers == 4
    classifier = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    assert classifier.config.num_labels == 3


def test_pairs_get_separators_types_and_padding(tokenizer):
    encoded = tokenizer(["the dog .", "a cat"], ["who ?", "the dog chases a cat ."], padding=True)
    tokens = tokenizer.convert_ids_to_tokens(encoded["input_ids"][0])
    assert tokens == ["[CLS]", "the", "dog", ".", "[SEP]", "who", "?", "[SEP]"] + ["[PAD]"] * 3
    assert encoded["token_type_ids"][0] == [0] * 5 + [1] * 3 + [0] * 3
    assert encoded["attention_mask"][0] == [1] * 8 + [0] * 3


def test_all_texts_come_back_from_their_tokens(tokenizer):
    for texts in generate("rte", train_size=50, validation_size=10)["train"].texts:
        for text in texts:
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids[1:-1], clean_up_tokenization_spaces=False) == text


def test_same_seed_gives_the_same_encoder_and_keeps_the_global_state(folder, tmp_path):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    write_encoder(tmp_path, "rte", stages=BRIEF)
    assert torch.equal(torch.get_rng_state(), state)
    first, second = (AutoModel.from_pretrained(path).state_dict() for path in (folder, tmp_path))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_stacking_repeats_the_layers_in_order():
    shallow = initial_encoder(2, np.random.default_rng(0))
    deep = stack(shallow, 4)
    assert deep.config.num_hidden_layers == 4
    for index, layer in enumerate(deep.encoder.layer):
        source = shallow.encoder.layer[index % 2].state_dict()
        assert all(torch.equal(source[name], value) for name, value in layer.state_dict().items())


def test_synonyms_start_closer_than_other_words():
    vectors = word_vectors(48, np.random.default_rng(0))[5:]
    place = {word: index for index, word in enumerate(vocabulary())}
    dog, hound, cat = (vectors[place[word]] for word in ("dog", "hound", "cat"))
    assert dog @ hound > 0.8
    assert dog @ hound > dog @ cat + 0.3


@pytest.mark.parametrize(("task", "sound_label"), [("rte", 0), ("cola", 1), ("mnli", 0)])
def test_labels_of_the_corpus_are_true_and_equally_frequent(task, sound_label):
    rng = np.random.default_rng(0)
    corpus = draw_corpus(build_tokenizer(), task, rng, 900)
    for row in corpus:
        assert (1 in row.faults) == (row.label != sound_label)
    num_labels = len(TASKS[task].shares)
    found = np.bincount([row.label for row in corpus], minlength=num_labels) / len(corpus)
    np.testing.assert_allclose(found, 1 / num_labels, atol=0.06)


@pytest.mark.parametrize("task", ["cola", "sst2"])
def test_corpus_leaves_out_the_texts_of_the_splits(task):
    tokenizer = build_tokenizer()
    rows = draw_corpus(tokenizer, task, np.random.default_rng([list(TASKS).index(task), 0]), 3000)
    for split in generate(task).values():
        texts = [tuple(tokenizer(*example)["input_ids"]) for example in split.texts]
        assert not {row.input_ids for row in rows} & set(texts)


def test_outline_has_the_shape_and_the_tokenizer_of_an_encoder(folder, tmp_path):
    write_outline(tmp_path)
    outline = AutoModel.from_pretrained(tmp_path)
    assert outline.config.num_hidden_layers == STAGES[-1].num_layers
    assert outline.config.hidden_size == AutoModel.from_pretrained(folder).config.hidden_size
    tokenizers = [AutoTokenizer.from_pretrained(path) for path in (folder, tmp_path)]
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()


def test_every_step_is_told(tmp_path):
    told = []
    write_encoder(tmp_path, "rte", stages=BRIEF, advance=told.append)
    assert sum(told) == sum(stage.steps for stage in BRIEF)


def test_each_task_has_an_encoder_of_its_own(folder, tmp_path):
    write_encoder(tmp_path, "mrpc", stages=BRIEF)
    first, second = (AutoModel.from_pretrained(path).state_dict() for path in (folder, tmp_path))
    name = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(first[name], second[name])


def test_batches_mark_words_only():
    tokenizer = build_tokenizer()
    rng = np.random.default_rng(0)
    corpus = draw_corpus(tokenizer, "rte", rng, 1024)
    for batch in islice(batches(corpus, rng), 4):
        special = torch.isin(batch.input_ids, torch.tensor(tokenizer.all_special_ids))
        assert torch.equal(batch.faults == IGNORE_INDEX, special)
        assert torch.equal(batch.labels == 1, (batch.faults == 1).any(1))
        assert torch.equal(batch.attention_mask.sum(1), (batch.input_ids != 0).sum(1))
