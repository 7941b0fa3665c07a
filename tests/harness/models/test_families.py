"""Teachers of other families, of other widths, and with other names and orders of labels."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    CONFIG_MAPPING,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    RobertaTokenizer,
)

from harness.analysis.compare import summarise
from harness.compose import compose_config
from harness.config import ProtocolConfig, SourceConfig
from harness.data.sources import load_task_data
from harness.data.splits import TaskData
from harness.data.tasks import FolderLayout, load_task
from harness.data.tokens import encode
from harness.demo.encoder import build_tokenizer
from harness.demo.examples import generate
from harness.errors import ConfigError, TeacherError
from harness.models.checkpoints import check_fits, checkpoint_fingerprint, tokenizer_of
from harness.models.families import FAMILIES
from harness.models.student import centre_head
from harness.runtime.device import Arithmetic
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.study import main
from harness.training.prediction import predict
from harness.training.task_setup import Materials, prepare
from harness.training.teacher import _match_labels as match_labels
from harness.training.teacher import pretrained_classifier
from tests.harness.models.makers import SHAPE, TOKENIZERS, checkpoint, written

FOLDER = FolderLayout(columns=("text",), label="label")


def roberta(folder: Path, width: int = 16, *, kind: str = "roberta", **changes: object) -> Path:
    """A random RoBERTa or the like, with a byte-level tokenizer trained on the demo's texts."""
    backend = ByteLevelBPETokenizer()
    texts = [text for texts in generate("rte")["train"].texts for text in texts]
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    backend.train_from_iterator(texts, 400, special_tokens=special, show_progress=False)
    folder.mkdir()
    backend.save_model(str(folder))
    RobertaTokenizer.from_pretrained(folder).save_pretrained(folder)
    sizes = {"vocab_size": backend.get_vocab_size(), "hidden_size": width, "type_vocab_size": 1}
    return written(folder, CONFIG_MAPPING[kind](**{**SHAPE, **sizes, **changes}))


def electra(folder: Path, width: int = 16, *, kind: str = "electra", **changes: object) -> Path:
    """A random ELECTRA, its embeddings narrower than its layers, or the like; the demo's tokenizer."""
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    sizes = {"vocab_size": len(tokenizer), "hidden_size": width, "embedding_size": 8}
    return written(folder, CONFIG_MAPPING[kind](**{**SHAPE, **sizes, **changes}))


def named(task: str, order: list[int]) -> dict[str, object]:
    """The configuration of a classifier whose outputs are the task's labels in another order."""
    labels = [load_task(task).labels[index].upper().replace("_", "-") for index in order]
    return {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}


MAKERS = {
    kind: partial(electra if row.positions_from == "zero" else roberta, kind=kind)
    for kind, row in FAMILIES.items()
} | {kind: partial(checkpoint, family=kind) for kind in TOKENIZERS}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "electra"])
@pytest.mark.parametrize("outside", [False, True], ids=["fine-tuned here", "from outside"])
def test_a_study_with_another_family(
    tmp_path: Path, family: str, outside: bool, arithmetic: Arithmetic
) -> None:
    encoder = MAKERS[family](tmp_path / "encoder", **(named("rte", [1, 0]) if outside else {}))
    place = ["student.origin=finetuned", f"teacher.checkpoint={encoder}"] if outside else []
    flags = "--preset demo --method alp,pkd,kd --task rte --trials 2 --allow-weak-teacher"
    small = "teacher.epochs=1 training.epochs=1 student.layers=2 training.batch_size=64"
    small += " protocol.budget=1"
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
    inputs = encode(data.evaluation["validation"].texts, tokenizer_of(encoder), 64)
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
    folder = MAKERS[family](tmp_path / "encoder", **named("mnli", order))
    made = outside_materials(tmp_path, "mnli", folder, arithmetic)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    own = predict(model, made.inputs["selection"], arithmetic, None).logits
    expected = torch.stack([own[:, order.index(label)] for label in range(3)], dim=1)
    found = made.outputs["selection"]["cls"].logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert made.teacher.model.config.id2label[0] == "entailment"


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_head_begins_at_the_mean_score(tmp_path: Path, family: str) -> None:
    folder = MAKERS[family](tmp_path / "encoder")
    model = pretrained_classifier(folder, load_task("stsb"), 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    centre_head(model, 2.5)
    changed = [n for n, value in model.state_dict().items() if not torch.equal(value, before[n])]
    assert changed in (["classifier.bias"], ["classifier.out_proj.bias"])


def shrunk(folder: Path, wanted: Callable[[str], bool]) -> None:
    """Leave only some of a checkpoint's weights."""
    path = folder / "model.safetensors"
    kept = {name: value for name, value in load_file(path).items() if wanted(name)}
    save_file(kept, path, metadata={"format": "pt"})


def test_weights_that_are_not_there_are_never_drawn_at_random(
    tmp_path: Path, arithmetic: Arithmetic
) -> None:
    headless = electra(tmp_path / "headless", **named("rte", [0, 1]))
    shrunk(headless, lambda name: not name.startswith("classifier."))
    with pytest.raises(TeacherError, match=r"has no classifier, .* teacher\.pretrained=/"):
        outside_materials(tmp_path, "rte", headless, arithmetic)
    pretrained_classifier(headless, load_task("rte"), 0)  # a head of its own is what it is for
    shrunk(headless, lambda name: ".layer.3." not in name)
    with pytest.raises(
        TeacherError, match=r"weights do not fit or are missing, electra\.encoder\.layer\.3\."
    ):
        pretrained_classifier(headless, load_task("rte"), 0)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    folder = electra(tmp_path / "encoder")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(tmp_path / "pruned")
    with pytest.raises(TeacherError, match=r"model\.safetensors: cannot be read \(No such file"):
        checkpoint_fingerprint(folder)


def test_layers_are_never_left_out_in_silence(tmp_path: Path) -> None:
    folder = electra(tmp_path / "encoder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    with pytest.raises(TeacherError, match=r"has 2 layers, its weights have more .*layer\.2\."):
        pretrained_classifier(folder, load_task("rte"), 0)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("attention.self.distance_embedding.weight", "its layers have relative positions that"),
        ("attention.self.extra.weight", "its layers have weights that transformers' class"),
    ],
)
def test_weights_of_another_kind_of_layer_are_not_more_layers(
    tmp_path: Path, name: str, reason: str
) -> None:
    folder = electra(tmp_path / "encoder")
    weights = load_file(folder / "model.safetensors")
    prefix = next(key for key in weights if ".layer.0." in key).partition(".layer.0.")[0]
    weights[f"{prefix}.layer.0.{name}"] = torch.zeros(3, 4)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(TeacherError, match=reason):
        pretrained_classifier(folder, load_task("rte"), 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[1]", "not an object"),
        ("null", "not an object"),
        ("{", "not JSON"),
        ('{"id2label": ["a", "b"]}', "id2label does not name the outputs 0, 1"),
        ('{"id2label": {"1": "a", "2": "b"}}', "id2label does not name the outputs 0, 1"),
        ('{"id2label": {"a": "a", "b": "b"}}', "id2label does not name the outputs 0, 1"),
    ],
)
def test_outputs_that_are_not_numbered_are_refused(
    tmp_path: Path, content: str, reason: str
) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(TeacherError, match=reason):
        match_labels(tmp_path, load_task("rte"), None)


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (["Nomatch", "Match"], ["Match", "Nomatch"], (1, 0)),
        (["no-match", "match"], ["MATCH", "NO_MATCH"], (1, 0)),
        (["0", "1"], ["1", "0"], (1, 0)),
        (["да", "нет"], ["Нет", "Да"], (1, 0)),
        (["a-b", "a_b"], ["a_b", "a-b"], (1, 0)),
        (["a-b", "a_b"], ["A-B", "A_B"], None),
    ],
)
def test_labels_are_matched_as_they_are_and_then_without_case_and_signs(
    tmp_path: Path, labels: list[str], names: list[str], expected: tuple[int, ...] | None
) -> None:
    own = replace(load_task("rte"), name="jobs", labels=tuple(labels), hub=None, folder=FOLDER)
    (tmp_path / "config.json").write_text(json.dumps({"id2label": dict(enumerate(names))}))
    if expected is None:
        with pytest.raises(TeacherError, match="cannot be matched by name"):
            match_labels(tmp_path, own, None)
        return
    assert match_labels(tmp_path, own, None) == expected
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TeacherError, match="cannot be matched") as refused:
        match_labels(tmp_path, own, None)
    advised = re.findall(r"'(teacher\.labels\..*)'", str(refused.value))[0]
    base = ["preset=demo", "methods=[kd]", "tasks=[jobs]", "teacher.checkpoint=x"]
    given = compose_config([*base, advised]).teacher.labels["jobs"]
    assert match_labels(tmp_path, own, given) == (0, 1)


def test_an_encoder_without_a_classifier_is_told_before_its_labels(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    with pytest.raises(
        TeacherError, match=r"--teacher .*: has no classifier, .* teacher\.pretrained=/"
    ):
        match_labels(tmp_path, load_task("rte"), None)
    names = load_task("rte").labels
    assert match_labels(tmp_path, load_task("rte"), names) == (
        0,
        1,
    )  # its weights are looked at later


def test_names_for_the_output_of_a_regression_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"id2label": {"0": "score"}}')
    with pytest.raises(TeacherError, match=r"teacher\.labels\.stsb: it has scores"):
        match_labels(tmp_path, load_task("stsb"), ["x"])


def test_a_teacher_whose_outputs_are_no_numbers_is_refused(
    tmp_path: Path, arithmetic: Arithmetic
) -> None:
    folder = electra(tmp_path / "encoder", **named("rte", [0, 1]))
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["classifier.out_proj.weight"].fill_(float("nan"))
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(
        TeacherError, match="logits on the split 'selection' are not finite numbers"
    ):
        outside_materials(tmp_path, "rte", folder, arithmetic)


def test_outputs_without_names_are_refused_unless_named(
    tmp_path: Path, arithmetic: Arithmetic
) -> None:
    folder = electra(tmp_path / "encoder", num_labels=3)
    reason = (
        r"outputs \['LABEL_0', .* cannot be matched by name .* 'teacher\.labels\.mnli=\[\"entail"
    )
    with pytest.raises(TeacherError, match=reason):
        outside_materials(tmp_path, "mnli", folder, arithmetic)
    plain = "teacher.labels.mnli=[entailment,neutral,contradiction]"
    other = "teacher.labels.mnli=[contradiction,entailment,neutral]"
    first, second = (
        outside_materials(tmp_path, "mnli", folder, arithmetic, names) for names in (plain, other)
    )
    assert first.teacher.fingerprint != second.teacher.fingerprint
    logits = [made.outputs["train"]["cls"].logits for made in (first, second)]
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
    inputs = [encode(data_of("rte").train.texts, tokenizer_of(folder), 64)]
    if reason is None:
        check_fits(folder, inputs, 64)
    else:
        with pytest.raises(TeacherError, match=reason):
            check_fits(folder, inputs, 64)


def test_token_types_that_the_encoder_does_not_have_are_refused(tmp_path: Path) -> None:
    folder = electra(tmp_path / "encoder", type_vocab_size=1)
    inputs = [encode(data_of("rte").train.texts, tokenizer_of(folder), 64)]
    with pytest.raises(TeacherError, match="token types up to 1, embeddings for 1"):
        check_fits(folder, inputs, 64)


def test_other_architectures_are_refused(tmp_path: Path) -> None:
    GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=100).save_pretrained(tmp_path)
    with pytest.raises(TeacherError, match="'gpt2' is not an encoder of the BERT family"):
        check_fits(tmp_path, [], 64)


def test_code_from_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('run')")
    names = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": names}))
    with pytest.raises(TeacherError, match=r"unusable config\.json"):
        check_fits(tmp_path, [], 64)


def test_a_teacher_wider_than_its_students(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = electra(tmp_path / "wide", 24, **named("rte", [1, 0]))
    narrow = electra(tmp_path / "narrow", 16)
    flags = "--preset demo --method kd,alp,random-projection --task rte --trials 2 --json"
    small = "training.epochs=1 student.layers=2 training.batch_size=64 student.origin=pretrained"
    small += " protocol.budget=1"
    places = f"--teacher {wide} teacher.pretrained={narrow} --out {tmp_path / 'runs'}"
    assert main(f"{flags} {places} {small} --allow-weak-teacher".split()) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [len(found["scores"]) for found in summary["results"]] == [2, 2, 2]
    for student in (tmp_path / "runs" / "students").glob("*/*"):
        assert json.loads((student / "config.json").read_text())["hidden_size"] == 16
    refused = f"{flags} {places} {small} --allow-weak-teacher".replace(
        "alp,random-projection", "pkd"
    )
    assert main(refused.split()) == 2
    assert "error: pkd-skip needs a student as wide as its teacher" in capsys.readouterr().err
