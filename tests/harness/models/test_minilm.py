"""The real weights of the extra `minilm`: read, stacked, and taken through a whole study."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from harness.data.tasks import load_task
from harness.demo.examples import generate
from harness.models.checkpoints import locate, tokenizer_of
from harness.models.minilm import MINILM_PACKAGE, minilm_installed
from harness.models.stacked import StackedClassifier
from harness.study import main
from harness.training.teacher import pretrained_classifier

pytestmark = [
    pytest.mark.minilm,
    pytest.mark.skipif(not minilm_installed(), reason=f"{MINILM_PACKAGE} is not installed"),
]
FIRST = ["The cat sat on the mat.", "Nobody came.", "A man is playing a guitar in the street."]
SECOND = ["Where was it?", "Unbelievably, all of them had left before the music began.", "Why?"]


def test_the_stacked_encoder_computes_what_hugging_faces_does(tmp_path: Path) -> None:
    folder = locate("minilm", "rte", tmp_path)
    batch = dict(tokenizer_of(folder)(FIRST, SECOND, padding=True, return_tensors="pt"))
    mask = batch["attention_mask"]
    assert len(set(mask.sum(1).tolist())) == 3
    model = pretrained_classifier(folder, load_task("rte"), 0)
    weights = [model.state_dict()] * 2
    network = StackedClassifier(model.config, weights, torch.device("cpu"), torch.float32)
    encoder = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        both = {name: torch.stack([values, values]) for name, values in batch.items()}
        found = network.forward(both, None, "mean", frozenset({"tokens"}))
        first = network.forward(both, None, "cls").states
        expected = encoder(**batch, output_hidden_states=True).hidden_states
    assert len(expected) == len(found.tokens) == 7
    real = mask[..., None]
    for member in range(2):
        for own, states in zip(found.tokens, expected, strict=True):
            torch.testing.assert_close(own[member] * real, states * real, atol=1e-5, rtol=0)
        for layer, states in enumerate(expected[1:]):
            mean = (states * real).sum(1) / real.sum(1)
            torch.testing.assert_close(found.states[member, :, layer], mean, atol=1e-5, rtol=0)
            torch.testing.assert_close(first[member, :, layer], states[:, 0], atol=1e-5, rtol=0)


def write_glue(folder: Path) -> None:
    """RTE's files in GLUE's format, with few examples."""
    folder.mkdir(parents=True)
    made = generate("rte", train_size=64, validation_size=32)
    for file, split in {"train": made["train"], "dev": made["validation"]}.items():
        lines = ["index\tsentence1\tsentence2\tlabel"]
        for index, (texts, label) in enumerate(zip(split.texts, split.labels, strict=True)):
            lines.append("\t".join([str(index), *texts, load_task("rte").labels[int(label)]]))
        (folder / f"{file}.tsv").write_text("\n".join(lines) + "\n")


def test_the_preset_is_a_whole_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_glue(tmp_path / "glue" / "RTE")
    flags = (
        f"--preset minilm --data {tmp_path / 'glue'} --out {tmp_path / 'runs'} --task rte --json "
        "--method alp --baseline none --protocol paper --trials 1 --seeds 1 --student-layers 1 "
        "--allow-weak-teacher teacher.epochs=1 training.epochs=1 training.precision=fp32 threads=1"
    )
    assert main(flags.split()) == 0
    found = capsys.readouterr()
    assert found.err.startswith("preset minilm: ")
    summary = json.loads(found.out)
    (result,) = summary["results"]
    assert (result["task"], result["method"], len(result["scores"])) == ("rte", "alp", 1)
    page = Path(summary["report"]).read_text()
    assert "<dt>preset</dt><dd>minilm</dd>" in page
    assert "minilm: 6 layers of width 384" in page
