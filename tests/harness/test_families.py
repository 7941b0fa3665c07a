"""Teachers of other families, of other widths, and with other names and orders of labels."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    ElectraConfig,
    PretrainedConfig,
    RobertaConfig,
    RobertaTokenizer,
)

from harness.checkpoints import check_fits, tokenizer_of
from harness.compare import summarise
from harness.compose import compose_config
from harness.config import ProtocolConfig, SourceConfig
from harness.demo import generate
from harness.demo_encoder import build_tokenizer
from harness.errors import ConfigError, TeacherError
from harness.inputs import encode
from harness.ledger import Ledger
from harness.materials import Materials, prepare
from harness.precision import Arithmetic
from harness.randomness import global_seed
from harness.sources import TaskData, load_task_data
from harness.storage import storage_url
from harness.study import main
from harness.tasks import load_task
from harness.train import predict

SHAPE = {
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 70,
}


def roberta(folder: Path, width: int = 16, **changes: object) -> Path:
    """A random RoBERTa with a byte-level tokenizer trained on the demo's texts."""
    backend = ByteLevelBPETokenizer()
    texts = [text for texts in generate("rte")["train"].texts for text in texts]
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    backend.train_from_iterator(texts, 400, special_tokens=special, show_progress=False)
    folder.mkdir()
    backend.save_model(str(folder))
    RobertaTokenizer.from_pretrained(folder).save_pretrained(folder)
    sizes = {"vocab_size": backend.get_vocab_size(), "hidden_size": width, "type_vocab_size": 1}
    return written(folder, RobertaConfig(**{**SHAPE, **sizes, **changes}))


def electra(folder: Path, width: int = 16, **changes: object) -> Path:
    """A random ELECTRA, its embeddings narrower than its layers, with the demo's tokenizer."""
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    sizes = {"vocab_size": len(tokenizer), "hidden_size": width, "embedding_size": 8}
    return written(folder, ElectraConfig(**{**SHAPE, **sizes, **changes}))


def written(folder: Path, config: PretrainedConfig) -> Path:
    with global_seed("family"):
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder


def named(task: str, order: list[int]) -> dict[str, object]:
    """The configuration of a classifier whose outputs are the task's labels in another order."""
    labels = [load_task(task).labels[index].upper().replace("_", "-") for index in order]
    return {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}


FAMILIES = {"roberta": roberta, "electra": electra}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("outside", [False, True], ids=["fine-tuned here", "from outside"])
def test_a_study_with_another_family(
    tmp_path: Path, family: str, outside: bool, arithmetic: Arithmetic
) -> None:
    encoder = FAMILIES[family](tmp_path / "encoder", **(named("rte", [1, 0]) if outside else {}))
    place = ["student.origin=finetuned", f"teacher.checkpoint={encoder}"] if outside else []
    flags = "--preset demo --method alp,pkd,kd --task rte --trials 1 --seeds 2 --allow-weak-teacher"
    small = "teacher.epochs=1 training.epochs=1 student.layers=2 training.batch_size=64"
    out = tmp_path / "runs"
    assert (
        main(
            [
                *f"{flags} --out {out} --keep report {small}".split(),
                *place,
                f"teacher.pretrained={encoder}",
            ]
        )
        == 0
    )
    ledger = Ledger(storage_url(out, None))
    (name,) = [path.parent.name for path in out.glob("*/report.html")]
    data = load_task_data(load_task("rte"), SourceConfig(), ProtocolConfig())
    inputs = encode(data.evaluation["validation"], tokenizer_of(encoder), 64)
    students = {p.name: p for p in (out / "students").glob("*/*")}
    results = summarise(ledger, name).results
    assert [len(found.scores) for found in results] == [2, 2, 2]
    for found in results:
        run = found.report[0].record.fingerprint
        student = AutoModelForSequenceClassification.from_pretrained(students[run[:16]]).eval()
        assert student.config.model_type == family
        assert student.config.id2label == {0: "entailment", 1: "not_entailment"}
        assert AutoTokenizer.from_pretrained(students[run[:16]]).vocab_size > 0
        stored = ledger.predictions(run, "validation")
        assert stored is not None
        logits = predict(student, inputs, arithmetic, None).logits
        torch.testing.assert_close(logits, torch.tensor(stored.logits), atol=1e-5, rtol=1e-4)
    ledger.close()


def outside_materials(
    folder: Path, task: str, checkpoint: Path, arithmetic: Arithmetic, *more: str
) -> Materials:
    config = compose_config(
        [
            *("preset=demo", "methods=[kd]", f"tasks=[{task}]", "teacher.allow_weak=true"),
            *("student.origin=finetuned", "student.layers=2", f"teacher.checkpoint={checkpoint}"),
            *more,
        ]
    )
    return prepare(config, data_of(task), arithmetic, folder / "out")


def data_of(task: str) -> TaskData:
    return load_task_data(load_task(task), SourceConfig(), ProtocolConfig())


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_are_put_in_the_order_of_the_labels(
    tmp_path: Path, family: str, arithmetic: Arithmetic
) -> None:
    """Public MNLI checkpoints have contradiction first, or entailment, or neutral."""
    order = [2, 0, 1]
    folder = FAMILIES[family](tmp_path / "encoder", **named("mnli", order))
    made = outside_materials(tmp_path, "mnli", folder, arithmetic)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    own = predict(model, made.inputs["selection"], arithmetic, None).logits
    expected = torch.stack([own[:, order.index(label)] for label in range(3)], dim=1)
    found = torch.tensor(made.outputs["selection"].logits)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert made.teacher.model.config.id2label[0] == "entailment"


def test_outputs_without_names_are_refused_unless_named(
    tmp_path: Path, arithmetic: Arithmetic
) -> None:
    folder = electra(tmp_path / "encoder", num_labels=3)
    reason = r"outputs \['LABEL_0', .* cannot be matched by name .* teacher\.labels\.mnli=\[entail"
    with pytest.raises(TeacherError, match=reason):
        outside_materials(tmp_path, "mnli", folder, arithmetic)
    plain = "teacher.labels.mnli=[entailment,neutral,contradiction]"
    other = "teacher.labels.mnli=[contradiction,entailment,neutral]"
    first, second = (
        outside_materials(tmp_path, "mnli", folder, arithmetic, names) for names in (plain, other)
    )
    assert first.teacher.fingerprint != second.teacher.fingerprint
    logits = [made.outputs["train"].logits for made in (first, second)]
    assert (logits[0][:, 2] == logits[1][:, 0 + 1]).all()
    with pytest.raises(TeacherError, match=r"teacher\.labels\.mnli: outputs \['yes'"):
        outside_materials(
            tmp_path, "mnli", folder, arithmetic, "teacher.labels.mnli=[yes,no,maybe]"
        )


def test_names_of_outputs_that_nothing_reads_are_refused() -> None:
    base = ["preset=demo", "methods=[kd]", "tasks=[rte]", "teacher.labels.mnli=[a,b,c]"]
    with pytest.raises(ConfigError, match="names the outputs of a teacher from outside"):
        compose_config(base)
    with pytest.raises(ConfigError, match=r"teacher\.labels\.mnli: no task of this command"):
        compose_config([*base, "teacher.checkpoint=somewhere"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"vocab_size": 40}, "its tokenizer does not belong to it: tokens up to"),
        ({"max_position_embeddings": 65}, r"max_length=64: .* has positions for 56 tokens"),
    ],
)
def test_encoders_without_embeddings_for_the_inputs_are_refused(
    tmp_path: Path, changes: dict[str, object], reason: str | None
) -> None:
    folder = roberta(tmp_path / "encoder", **changes)
    inputs = [encode(data_of("rte").train, tokenizer_of(folder), 64)]
    if reason is None:
        check_fits(folder, inputs, 64)
    else:
        with pytest.raises(TeacherError, match=reason):
            check_fits(folder, inputs, 64)


def test_token_types_that_the_encoder_does_not_have_are_refused(tmp_path: Path) -> None:
    folder = electra(tmp_path / "encoder", type_vocab_size=1)
    inputs = [encode(data_of("rte").train, tokenizer_of(folder), 64)]
    with pytest.raises(TeacherError, match="token types up to 1, embeddings for 1"):
        check_fits(folder, inputs, 64)


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    sizes = {"vocab_size": 100, "hidden_size": 16, "embedding_size": 8}
    AlbertConfig(**SHAPE, **sizes).save_pretrained(tmp_path)
    with pytest.raises(TeacherError, match="'albert' is not an encoder of the BERT family"):
        check_fits(tmp_path, [], 64)


def test_code_from_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('run')")
    names = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": names}))
    with pytest.raises(TeacherError, match=r"unusable config\.json"):
        check_fits(tmp_path, [], 64)
