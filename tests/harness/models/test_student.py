"""Students: which layers they copy, what their seed decides, and that saving loses nothing."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from harness.config import StudentConfig
from harness.errors import MethodError
from harness.method import Shapes
from harness.models.student import (
    Blueprint,
    build_classifier,
    load_classifier,
    save_student,
)
from harness.models.student_shape import copied_layers
from harness.registry.discovery import registry
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import generator
from harness.training.prediction import predict
from tests.conftest import VOCABULARY, tiny_bert, tiny_inputs


@pytest.mark.parametrize(
    ("init", "student", "teacher", "expected"),
    [
        ("skip", 4, 12, [3, 6, 9, 12]),
        ("skip", 6, 12, [2, 4, 6, 8, 10, 12]),
        ("skip", 5, 12, [2, 5, 7, 10, 12]),
        ("skip", 3, 6, [2, 4, 6]),
        ("first", 4, 12, [1, 2, 3, 4]),
    ],
)
def test_layers_copied(init: str, student: int, teacher: int, expected: list[int]) -> None:
    assert [layer + 1 for layer in copied_layers(init, student, teacher)] == expected


def test_skip_copies_embeddings_layers_and_pooler_and_draws_the_head() -> None:
    teacher = tiny_bert(4)
    theirs, ours = teacher.state_dict(), Blueprint(teacher, StudentConfig(layers=2)).weights(1)
    for name, value in ours.items():
        source = name.replace("layer.0.", "layer.1.") if "layer.0." in name else name
        source = name.replace("layer.1.", "layer.3.") if "layer.1." in name else source
        same = torch.equal(value, theirs[source])
        assert same != name.startswith("classifier.weight"), name


def test_seed_decides_the_head_and_with_random_init_everything() -> None:
    teacher = tiny_bert(4)
    words, head = "bert.embeddings.word_embeddings.weight", "classifier.weight"
    made = Blueprint(teacher, StudentConfig(layers=2))
    first, again, other = (made.weights(seed) for seed in (1, 1, 2))
    assert torch.equal(first[head], again[head])
    assert not torch.equal(first[head], other[head])
    assert first[words].data_ptr() == other[words].data_ptr()  # shared, not copied
    blank = Blueprint(teacher, StudentConfig(layers=2, init="random"))
    drawn, twice, another = (blank.weights(seed) for seed in (1, 1, 2))
    assert not torch.equal(drawn[words], teacher.state_dict()[words])
    assert all(torch.equal(value, twice[name]) for name, value in drawn.items())
    assert not torch.equal(drawn[words], another[words])


def test_a_drawn_head_has_the_spread_of_hugging_faces() -> None:
    teacher = tiny_bert(4, outputs=3, width=256)
    head = Blueprint(teacher, StudentConfig(layers=2)).weights(1)["classifier.weight"]
    assert head.std().item() == pytest.approx(teacher.config.initializer_range, rel=0.1)
    assert head.mean().item() == pytest.approx(0.0, abs=0.003)


def test_making_a_student_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    Blueprint(tiny_bert(4), StudentConfig(layers=2, init="random")).weights(1)
    assert torch.equal(before, torch.get_rng_state())


def test_a_regressions_head_begins_at_the_mean_score() -> None:
    teacher, config = tiny_bert(outputs=1), StudentConfig(layers=2)
    made = Blueprint(teacher, config), Blueprint(teacher, config, 2.5)
    plain, centred = (build_classifier(one.config, one.weights(1)) for one in made)
    ids = torch.randint(5, VOCABULARY, (64, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        shift = centred(ids).logits - plain(ids).logits
    torch.testing.assert_close(shift, torch.full((64, 1), 2.5))


def test_deeper_than_the_teacher_is_refused() -> None:
    with pytest.raises(MethodError, match="the teacher has 4"):
        Blueprint(tiny_bert(4), StudentConfig(layers=5))


def test_a_saved_student_gives_the_same_logits_and_keeps_projections_and_labels(
    tmp_path: Path, arithmetic: Arithmetic
) -> None:
    made = Blueprint(tiny_bert(4), StudentConfig(layers=2))
    student = build_classifier(made.config, made.weights(1))
    student.config.id2label = {0: "entailment", 1: "not_entailment"}
    setting = {"scaled": True, "detach_attention": False, "value": "raw"}
    method = registry().resolve("alp")(Shapes(4, 16, 2, 16, 2), setting, generator("x"))
    save_student(student, method, tmp_path, tmp_path / "student")
    inputs = tiny_inputs(20)
    expected = predict(student, inputs, arithmetic, None).logits
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    assert theirs.config.id2label == {0: "entailment", 1: "not_entailment"}
    found = predict(
        load_classifier(tmp_path / "student", arithmetic.device), inputs, arithmetic, None
    )
    assert torch.equal(found.logits, expected)
    torch.testing.assert_close(
        predict(theirs.eval(), inputs, arithmetic, None).logits, expected, atol=1e-5, rtol=1e-5
    )
    assert set(load_file(tmp_path / "student" / "method.safetensors")) == {"key.weight"}
