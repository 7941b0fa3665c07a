"""A family of encoders is one row: what the rows say is so, and new ones train on both engines."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
)

from harness.config import StudentConfig
from harness.demo.encoder import build_tokenizer
from harness.errors import TeacherError
from harness.models.architectures import BERT
from harness.models.attention import ATTENTION, record_attention
from harness.models.checkpoints import check_fits
from harness.models.families import (
    FAMILIES,
    ON_POOLER,
    TYPE_EMBEDDINGS,
    Family,
    Head,
    can_stack,
)
from harness.models.student import Blueprint, head_of
from harness.runtime.device import Arithmetic
from harness.study import main
from tests.conftest import SIZES
from tests.harness.models.makers import SHAPE
from tests.harness.training.test_loop import close, mixed, recipe, trained


class CopycatConfig(BertConfig):
    """BERT under another name, and with another activation after its pooler."""

    model_type = "copycat"


class CopycatModel(BertModel):
    config_class = CopycatConfig

    def __init__(self, config: CopycatConfig, **options: Any) -> None:
        super().__init__(config, **options)
        if self.pooler is not None:
            self.pooler.activation = nn.GELU()


class CopycatForSequenceClassification(BertForSequenceClassification):
    config_class = CopycatConfig

    def __init__(self, config: CopycatConfig) -> None:
        super().__init__(config)
        self.bert.pooler.activation = nn.GELU()


COPYCAT = Family(
    "copycat",
    replace(ON_POOLER, activation=F.gelu),
    "zero",
    attention=True,
    types=TYPE_EMBEDDINGS,
    architecture=BERT,
)
DISTILBERT = Family(
    "distilbert",
    Head("pre_classifier", "classifier", uses_pooler=False, activation=F.relu, drops_input=False),
    "zero",
    attention=True,
    types=None,
    layers="transformer.layer",
)


@pytest.fixture
def copycat() -> Iterator[None]:
    """The family's classes are registered with transformers, as a package of one's own would do."""
    AutoConfig.register("copycat", CopycatConfig)
    AutoModel.register(CopycatConfig, CopycatModel)
    AutoModelForSequenceClassification.register(CopycatConfig, CopycatForSequenceClassification)
    yield
    del CONFIG_MAPPING._extra_content["copycat"]
    for mapping in (MODEL_MAPPING, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING):
        del mapping._extra_content[CopycatConfig]


def classifier(model_type: str, **changes: Any) -> PreTrainedModel:
    """A random classifier of three layers."""
    torch.manual_seed(0)
    config = CONFIG_MAPPING[model_type](**{**SIZES, **changes})
    return AutoModelForSequenceClassification.from_config(config)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_of_a_row_is_all_that_is_linear_outside_the_encoder(family: str) -> None:
    model = classifier(family)
    outside = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(f"{model.base_model_prefix}.")
    ]
    assert [name for name, _ in head_of(model)] == outside


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_position_of_a_row_is_hugging_faces(family: str) -> None:
    """The padding id is 1: MPNet's class has no other, and a family that starts at `zero` ignores it."""
    model = classifier(family, pad_token_id=1)
    table = getattr(model.base_model.embeddings, "position_embeddings", None)
    padding = None if table is None else table.padding_idx
    assert FAMILIES[family].first_position(model.config) == (0 if padding is None else padding + 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_says_whether_its_class_hands_out_the_attention(family: str) -> None:
    """The softmax of recorded scores is the attention that Hugging Face's own function returns."""
    torch.manual_seed(0)
    model, plain_model = (
        AutoModelForSequenceClassification.from_config(
            CONFIG_MAPPING[family](**SIZES), attn_implementation=name
        ).eval()
        for name in (ATTENTION, "eager")
    )
    plain_model.load_state_dict(model.state_dict())
    tokens = torch.randint(5, SIZES["vocab_size"], (2, 6))
    with torch.no_grad(), record_attention(frozenset({"scores"})) as record:
        model(input_ids=tokens)
        expected = plain_model(input_ids=tokens, output_attentions=True).attentions
    assert FAMILIES[family].attention == bool(record.scores), "the row's `attention` is wrong"
    for scores, weights in zip(record.scores, expected, strict=bool(record.scores)):
        torch.testing.assert_close(scores.softmax(dim=-1), weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_says_whether_its_class_has_token_types(family: str) -> None:
    encoder = classifier(family, type_vocab_size=2).base_model
    embeddings = [name for name, _ in encoder.named_modules() if "token_type" in name]
    types = FAMILIES[family].types
    assert embeddings == ([] if types is None else [types])


@pytest.mark.usefixtures("copycat")
@pytest.mark.parametrize("size", [1, 5])
def test_a_new_row_trains_with_equal_losses_on_both_engines(
    arithmetic: Arithmetic, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setitem(FAMILIES, "copycat", COPYCAT)
    blueprint = Blueprint(classifier("copycat"), StudentConfig(layers=2))
    members = [replace(own, weights=blueprint.weights(own.seed)) for own in mixed(size)]
    shared = replace(recipe(arithmetic, examples=16, epochs=10), model=blueprint.config)
    assert can_stack(blueprint.config)
    together, _ = trained(members, shared)
    alone = replace(shared, training=replace(shared.training, engine="reference"))
    for row, member in enumerate(members):
        (expected,), _ = trained([member], alone)
        close(together[row], expected)


def small(out: Path, encoder: Path) -> list[str]:
    flags = (
        "--preset demo --method alp,kd --task rte --trials 2 protocol.budget=1 --json --keep report"
    )
    short = "teacher.epochs=1 training.epochs=1 student.layers=2 training.batch_size=64 threads=1"
    words = f"{flags} --out {out} --allow-weak-teacher {short} teacher.pretrained={encoder}"
    return words.split()


@pytest.mark.usefixtures("copycat")
@pytest.mark.parametrize("row", [COPYCAT, DISTILBERT], ids=lambda row: row.model_type)
def test_a_new_row_is_all_that_a_study_needs(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    row: Family,
) -> None:
    """DistilBERT's layers and head have other names, and its class takes no token types.

    Its row here names no architecture, so the reference engine trains it.
    """
    tokenizer = build_tokenizer()
    encoder = tmp_path / "encoder"
    tokenizer.save_pretrained(encoder)
    shape = {**SHAPE, "hidden_size": 16, "vocab_size": len(tokenizer), "hidden_dim": 32}
    config = CONFIG_MAPPING[row.model_type](**shape)
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(encoder)
    monkeypatch.delitem(FAMILIES, row.model_type, raising=False)
    with pytest.raises(TeacherError, match=f"'{row.model_type}' is not an encoder of the BERT"):
        check_fits(encoder, [], 64)
    monkeypatch.setitem(FAMILIES, row.model_type, row)
    given: set[str] = set()
    forward = DistilBertForSequenceClassification.forward

    def noting(self: PreTrainedModel, **inputs: Any) -> Any:
        given.update(inputs)
        return forward(self, **inputs)

    monkeypatch.setattr(DistilBertForSequenceClassification, "forward", noting)
    assert main(small(tmp_path / "runs", encoder)) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [len(result["scores"]) for result in summary["results"]] == [2, 2]
    students = sorted((tmp_path / "runs" / "students").glob("*/*"))
    assert len(students) == 4
    for folder in students:
        config = json.loads((folder / "config.json").read_text())
        assert config["model_type"] == row.model_type
        layers = config["n_layers" if row is DISTILBERT else "num_hidden_layers"]
        assert layers == 2
    if row is DISTILBERT:
        assert not can_stack(DistilBertConfig())
        assert given == {"input_ids", "attention_mask", "output_hidden_states"}
