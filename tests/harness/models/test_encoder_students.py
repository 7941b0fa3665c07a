"""Students of encoders with heads and tokenizers of their own: checks, training, saved checkpoints."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from harness.config import ProtocolConfig, SourceConfig, StudentConfig
from harness.data.sources import load_task_data
from harness.data.tasks import load_task
from harness.data.tokens import encode
from harness.errors import TeacherError
from harness.models.checkpoints import check_fits, tokenizer_of
from harness.models.families import FAMILIES, can_stack
from harness.models.student import (
    Blueprint,
    build_classifier,
    load_classifier,
    save_student,
)
from harness.runtime.device import Arithmetic
from harness.study import main
from harness.training.loop import train_population
from harness.training.recipe import engine_of
from tests.conftest import tiny_batch
from tests.harness.models.makers import TOKENIZERS, checkpoint
from tests.harness.models.test_encoders import CONFIGS, CPU, random_model
from tests.harness.training.test_loop import close, member, mixed, recipe, trained


@pytest.mark.parametrize(
    ("family", "method", "more", "reason"),
    [
        ("mpnet", "minilm", "", "'mpnet' encoders do not hand out their attention"),
        ("modernbert", "tinybert", "", "no scores of distant tokens"),
        ("modernbert", "alp", "student.layers=9", "--student-layers 9: the teacher has 4"),
    ],
)
def test_a_study_refuses_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    family: str,
    method: str,
    more: str,
    reason: str,
) -> None:
    folder = checkpoint(tmp_path / "encoder", family)
    flags = f"--preset demo --method {method},kd --task rte --trials 2 protocol.budget=1"
    flags += f" --dry-run {more or 'student.layers=2'}"
    places = f"--out {tmp_path / 'runs'} teacher.pretrained={folder}"
    assert main(f"{flags} {places}".split()) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert reason in error


@pytest.mark.parametrize("family", TOKENIZERS)
def test_a_checkpoint_with_its_own_tokenizer_fits(tmp_path: Path, family: str) -> None:
    folder = checkpoint(tmp_path / "encoder", family)
    data = load_task_data(load_task("rte"), SourceConfig(), ProtocolConfig())
    inputs = encode(data.train.texts, tokenizer_of(folder), 64)
    if family == "deberta-v2":  # no embeddings of types: the tokenizer's types are not looked up
        assert inputs.types.max() == 1
    check_fits(folder, [inputs], 64)
    with pytest.raises(TeacherError, match="has positions for"):
        check_fits(folder, [inputs], 96)
    assert inputs.counts.unknown < 0.2 * inputs.counts.words


@pytest.mark.parametrize("family", TOKENIZERS)
def test_a_trained_student_is_saved_and_loads_again(
    tmp_path: Path, family: str, arithmetic: Arithmetic
) -> None:
    """With methods that read pooled states; plain transformers then gives the trained logits."""
    folder = checkpoint(tmp_path / "encoder", family, vocab_size=500)
    teacher = load_classifier(folder, CPU)
    blueprint = Blueprint(teacher, StudentConfig(layers=2))
    shared = replace(recipe(arithmetic, examples=16, epochs=2), model=blueprint.config)
    shared = replace(shared, inputs=replace(shared.inputs, pad_id=int(teacher.config.pad_token_id)))
    assert engine_of("auto", blueprint.config) == (
        "stacked" if family in ("distilbert", "modernbert", "xlm-roberta") else "reference"
    )
    own_member = replace(member("pkd", 1), weights=blueprint.weights(1))
    population, (outcome,) = train_population([own_member], shared, lambda steps: None)
    assert outcome.failure is None
    weights = population.network.weights(0)
    (found,) = population.predict(shared.inputs, None)
    before = blueprint.weights(1)
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert sum(not torch.equal(value, before[name]) for name, value in weights.items()) > 10
    model = build_classifier(blueprint.config, weights)
    save_student(model, own_member.method, folder, tmp_path / "student")
    own = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student").eval()
    assert type(own) is type(teacher)
    batch = tiny_batch(shared.inputs, range(16), 32)
    with torch.no_grad():
        logits = own(**FAMILIES[family].model_inputs(batch)).logits
    torch.testing.assert_close(logits, found.logits, atol=1e-5, rtol=1e-5)
    found_inputs = AutoTokenizer.from_pretrained(tmp_path / "student")("a cat", "a dog")
    asked = AutoTokenizer.from_pretrained(folder)("a cat", "a dog", return_token_type_ids=True)
    assert found_inputs["input_ids"] == asked["input_ids"]
    has_types = FAMILIES[family].types is not None and int(teacher.config.type_vocab_size) > 1
    if has_types:  # plain transformers gives the types that the student was trained with
        assert max(asked["token_type_ids"]) == 1
        assert found_inputs["token_type_ids"] == asked["token_type_ids"]


@pytest.mark.parametrize("name", ["distilbert", "modernbert", "modernbert, cls"])
def test_both_engines_train_with_equal_losses(name: str, arithmetic: Arithmetic) -> None:
    blueprint = Blueprint(random_model(CONFIGS[name]), StudentConfig(layers=2))
    assert can_stack(blueprint.config)
    members = [replace(own, weights=blueprint.weights(own.seed)) for own in mixed(3)]
    shared = recipe(arithmetic, examples=16, epochs=4)
    pad = int(blueprint.config.pad_token_id)
    inputs = replace(shared.inputs, pad_id=pad)
    shared = replace(shared, model=blueprint.config, inputs=inputs)
    together, _ = trained(members, shared)
    alone = replace(shared, training=replace(shared.training, engine="reference"))
    for row, own in enumerate(members):
        (expected,), _ = trained([own], alone)
        close(together[row], expected)
