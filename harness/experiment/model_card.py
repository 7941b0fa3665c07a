"""The model card of a kept student: a README.md whose head Hugging Face's hub reads.

The card depends on the run alone, so that a repeated study writes the same bytes.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from harness.config import StudyConfig, Unit
from harness.data.tasks import Task
from harness.experiment.banners import study_banners, task_banners
from harness.metric_table import METRICS
from harness.models.student import output_names
from harness.storage.record import Record
from harness.training.run import Run
from harness.workers.prepared_task import PreparedTask

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
LICENSE = """Not chosen: whoever publishes this student chooses one and adds it to the head of this file,
as `license:`. The licenses of its encoder, its teacher and its data apply."""
SELECTION_NOTES: Mapping[Unit, str] = {
    "settings": """One run with one seed. Where a student was kept as the best of several seeds, these
very scores chose it, and they are optimistic. Means over seeds and the comparison with a baseline are in
the report.""",
    "methods": """One trial with one seed. Where a student was kept as the best of its method's trials, a
selection score on other examples chose it, not these scores. The method's tuned score and the comparison
with a baseline are in the report.""",
}
"""How a kept student was chosen, by the unit of the verdicts."""


@dataclass(frozen=True)
class DataSource:
    """The data in a card's head. `hub` is the data set's id on the hub, None for data from elsewhere."""

    hub: str | None
    type: str
    name: str
    config: str | None
    sentence: str


def model_card(run: Run, record: Record, prepared: PreparedTask) -> str:
    """The text of README.md for the student of a complete report run."""
    source = data_source(prepared.config, prepared.task)
    head = _head(run, record, prepared, source).to_yaml()
    body = "\n\n".join(_sections(run, record, prepared, source))
    return f"---\n{head}\n---\n\n{body}\n"


def data_source(config: StudyConfig, task: Task) -> DataSource:
    """The source of a task's examples."""
    kind, title = config.source.kind, task.title
    if kind == "demo":
        return DataSource(
            None, "demo", f"DEMO DATA, schema of {title}", None, "Demo data, made here."
        )
    if kind == "folder":
        dataset_type = task.name if task.custom else "glue"
        return DataSource(None, dataset_type, f"{title}, local files", task.name, "Local files.")
    assert task.hub is not None
    dataset = task.hub.dataset or config.source.dataset
    part = "" if task.hub.config is None else f", configuration {_code(task.hub.config)}"
    sentence = f"The data set {_code(dataset)} of Hugging Face's hub{part}."
    return DataSource(dataset, dataset, title, task.hub.config, sentence)


def _head(run: Run, record: Record, prepared: PreparedTask, source: DataSource) -> ModelCardData:
    config, task = prepared.config, prepared.task
    demo = config.source.kind == "demo"
    tags = (("knowledge-distillation", run.method.uses_teacher()), ("demo-data", demo))
    return ModelCardData(
        base_model=_base_model(config, task),
        datasets=None if source.hub is None else [source.hub],
        language=None if demo or task.custom else "en",
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=[run.method.name, *(tag for tag, holds in tags if holds)],
        metrics=[METRICS[name].hub_name for name in task.metrics],
        model_name=_name(run),
        eval_results=[
            EvalResult(
                task_type="text-classification",
                dataset_type=source.type,
                dataset_name=source.name,
                dataset_config=source.config,
                dataset_split=split,
                metric_type=METRICS[name].hub_name,
                metric_name=name,
                metric_value=value,
            )
            for split, metrics in record.split_metrics.items()
            for name, value in metrics.items()
        ],
    )


def _base_model(config: StudyConfig, task: Task) -> str | None:
    """The hub's id of the encoder that the student starts from; None for an encoder outside the hub."""
    if config.student.init == "random":
        return None
    name = config.teacher.pretrained
    if config.teacher.checkpoint is not None and config.student.origin == "finetuned":
        name = config.teacher.checkpoint
    name = name.replace("{task}", task.name)
    if name == "minilm":
        return MINILM
    return None if name == "demo" or Path(name).is_dir() else name


def _name(run: Run) -> str:
    return f"{run.study}-seed-{run.seed}"


def _sections(
    run: Run, record: Record, prepared: PreparedTask, source: DataSource
) -> Iterator[str]:
    config = prepared.config
    yield f"# {_name(run)}"
    for banner in (*study_banners(config), *task_banners(prepared)):
        yield f"> **{_text(banner)}**"
    yield _summary(run, prepared)
    yield "## Scores"
    yield _scores(record)
    yield SELECTION_NOTES[config.protocol.unit]
    yield "## Use"
    yield _use(prepared)
    yield "## Data"
    yield _data(prepared, source)
    yield "## Teacher"
    yield _teacher(prepared)
    yield "## Setting"
    yield _json(
        {
            "setting": dict(run.setting),
            "seed": run.seed,
            "student": asdict(config.student),
            "pooling": config.pooling,
            "training": asdict(run.inputs.training),
            "search": {"weights": config.search.weights},
        }
    )
    yield f"The run's fingerprint is `{run.fingerprint}`."
    yield f"`python -m harness.study --replay {run.fingerprint[:16]}` trains it again and compares."
    yield "## License"
    yield LICENSE


def _summary(run: Run, prepared: PreparedTask) -> str:
    method, title = run.method, _text(prepared.task.title)
    training = "trained without a teacher"
    if method.uses_teacher():
        training = f"distilled from a teacher of {prepared.outcome.teacher.layers}"
    paper = "" if method.paper == "-" else f" ({_text(method.paper)})"
    return (
        f"An encoder of {prepared.config.student.layers} layers for {title}, {training}, by the method "
        f"{_code(method.name)}: {_text(method.summary)}{paper}."
    )


def _scores(record: Record) -> str:
    lines = ["| split | metric | score, in points |", "| --- | --- | ---: |"]
    lines += [
        f"| {_text(split)} | {name} | {100 * value:.2f} |"
        for split, metrics in record.split_metrics.items()
        for name, value in metrics.items()
    ]
    return "\n".join(lines)


def _use(prepared: PreparedTask) -> str:
    max_length = prepared.config.training.max_length
    texts = ['"a first text"', '"a second text"'][: len(prepared.data.train.texts[0])]
    outputs = list(output_names(prepared.task).values())
    return f"""```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "."  # this one
tokenizer = AutoTokenizer.from_pretrained(folder)
student = AutoModelForSequenceClassification.from_pretrained(folder)
inputs = tokenizer({", ".join(texts)}, truncation=True, max_length={max_length}, return_tensors="pt")
outputs = student(**inputs).logits[0]
```

`outputs` are, in this order:

{_json(outputs)}

Where there is a `method.safetensors`, it holds what the method learned beside the student; nothing above
needs it."""


def _data(prepared: PreparedTask, source: DataSource) -> str:
    config, data = prepared.config, prepared.data
    splits = data.splits | data.unlabelled
    sizes = ", ".join(f"{_text(name)} {len(split)}" for name, split in splits.items())
    unlabelled = ""
    if data.transfer is not None:
        unlabelled = (
            f" The student was distilled from the texts of `transfer` too, without labels: "
            f"{data.transfer_ratio:.3g} for each training example, SHA-256 `{data.transfer.sha256}`."
        )
    lines = [
        "| split | rows left out | texts of training examples | cut at "
        f"{config.training.max_length} tokens, % | unknown tokens, % |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, split in prepared.outcome.splits.items():
        doubled = "-" if split.duplicates is None else split.duplicates
        shares = f"{100 * split.truncated_share:.1f} | {100 * split.unknown_share:.1f}"
        lines.append(f"| {_text(name)} | {split.left_out} | {doubled} | {shares} |")
    return (
        f"{source.sentence} Examples: {sizes}. The setting was selected on `selection` (protocol "
        f"`{config.protocol.name}`). SHA-256 of the training split: `{data.train.sha256}`."
        f"{unlabelled}\n\n" + "\n".join(lines)
    )


def _teacher(prepared: PreparedTask) -> str:
    facts = prepared.outcome.teacher
    metric = prepared.task.metrics[0]
    scores = ", ".join(
        f"{100 * metrics[metric]:.2f} on {_text(split)}" for split, metrics in facts.metrics.items()
    )
    teacher = Path(facts.name.replace("{task}", facts.task))
    name = teacher.name if teacher.is_dir() else str(teacher)
    recipe = f"{facts.second_recipe} " if facts.second_recipe else ""
    return (
        f"{_code(name)}, {facts.origin}, {facts.layers} layers of width {facts.width}. {recipe}"
        f"{metric}, in points: {scores}; a constant prediction has {100 * facts.constant:.2f} on "
        f"selection. Fingerprint: `{facts.fingerprint}`."
    )


def _json(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=1)}\n```"


def _code(text: str) -> str:
    """A code span that shows the text as it is, in one line."""
    line = " ".join(text.split())
    runs = [len(run) for run in re.findall("`+", line)]
    fence = "`" * (max(runs, default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _text(text: str) -> str:
    """A text that Markdown shows as it is, in one line, also in a table."""
    html_text = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]|#~])", r"\\\1", html_text)
