"""Examples a second of one student, here and elsewhere: `python -m benchmarks.peers [--json]`.

The same work by everyone: data, teacher, student, batch size, dropout, trained parameters, AdamW with
linear warm-up, clipping, and the losses: cross-entropy, distillation of the logits, and the squared
distance of [CLS] states of the skipped layers. Before anything is timed, every implementation's losses
on one batch are compared. Each repeat runs in a process of its own, and the repeats are interleaved.

Peers: TextBrewer (PyPI `textbrewer`), padded to 128 as in its examples and padded by batch, and the
plain loop of Hugging Face and PyTorch that papers publish. They run the teacher in every step, in fp32.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from benchmarks.workload import MAX_LENGTH, Workload, batches_of_all_lengths, make_workload
from harness.method import Context
from harness.population import Population
from harness.processor import hold_memory, set_threads
from harness.student import build_classifier, copied_layers

TEMPERATURE, KD_WEIGHT, LAYER_WEIGHT, RATE = 4.0, 0.5, 10.0, 1e-5
WARM_UP = 2
"""Steps before the clock starts."""
NAMES = {
    "harness": "this project",
    "textbrewer": "TextBrewer, padded to 128",
    "textbrewer-dynamic": "TextBrewer, padded by batch",
    "plain": "plain loop, padded to 128",
    "plain-dynamic": "plain loop, padded by batch",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="minilm", choices=("minilm", "bert-base", "tiny"))
    parser.add_argument("--data", type=Path, help="a folder of GLUE files; else lengths like RTE's")
    parser.add_argument("--task", default="rte")
    parser.add_argument("--examples", type=int, default=2490, help="of the data set")
    parser.add_argument("--steps", type=int, default=12, help="that are timed, of all lengths")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=0, help="0: the cores")
    parser.add_argument("--peers", default=",".join(NAMES), help="which ones, by comma")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Compare losses, time everyone, and print the table."""
    asked = _parser().parse_args(arguments)
    set_threads(asked.threads)
    hold_memory()
    if asked.child is not None:
        print(json.dumps(_measure(asked.child, asked)))
        return 0
    names = _available(asked.peers.split(","))
    compare_losses(names, asked)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(asked.repeats):
        for name in names:
            runs[name].append(_in_a_process(name, asked))
    rows = [_row(name, found, runs["harness"]) for name, found in runs.items()]
    result = {"examples": asked.examples, "threads": asked.threads, "rows": rows}
    if asked.json:
        print(json.dumps(result))
    else:
        _show(rows)
    return 0


def _available(names: list[str]) -> list[str]:
    unknown = set(names) - set(NAMES)
    if unknown:
        raise SystemExit(f"--peers: {min(unknown)} is none of {', '.join(NAMES)}")
    try:
        import textbrewer  # noqa: F401
    except ImportError:
        print("TextBrewer is left out: pip install -e '.[bench]'", file=sys.stderr)
        names = [name for name in names if not name.startswith("textbrewer")]
    return ["harness", *(name for name in names if name != "harness")]


def plain_rate(
    shape: str,
    threads: int,
    device: str = "cpu",
    examples: int = 2490,
    batch_size: int = 32,
    steps: int = 6,
) -> float:
    """Examples a second of the plain loop, padded to 128, from a few steps in a process of its own."""
    flags = {"threads": threads, "examples": examples, "batch-size": batch_size, "steps": steps}
    given = [part for name, value in flags.items() for part in (f"--{name}", str(value))]
    asked = _parser().parse_args(["--shape", shape, "--device", device, *given])
    found = _in_a_process("plain", asked)
    return found["examples"] / found["seconds"]


def _in_a_process(name: str, asked: argparse.Namespace) -> dict[str, float]:
    """Measure in a fresh process, whose peak memory is then its own."""
    flags = ["--child", name]
    for key in ("shape", "task", "examples", "steps", "batch_size", "device", "threads", "data"):
        if (value := getattr(asked, key)) is not None:
            flags += [f"--{key.replace('_', '-')}", str(value)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", *flags], check=True, stdout=subprocess.PIPE
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _row(
    name: str, found: list[dict[str, float]], ours: list[dict[str, float]]
) -> dict[str, float | str]:
    rates = [run["examples"] / run["seconds"] for run in found]
    own = median(run["examples"] / run["seconds"] for run in ours)
    return {
        "name": NAMES[name],
        "examples_per_second": median(rates),
        "least": min(rates),
        "most": max(rates),
        "ratio": own / median(rates),
        "peak_mebibytes": median(run["peak"] for run in found) / 2**20,
        "once": median(run["once"] for run in found),
    }


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table("", "examples/s", "lowest to highest", "ours is faster by", "peak memory", "once")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['examples_per_second']:.1f}",
            f"{row['least']:.1f} to {row['most']:.1f}",
            f"{row['ratio']:.1f} ×",
            f"{row['peak_mebibytes']:.0f} MiB",
            f"{row['once']:.1f} s",
        )
    Console().print(table)
    print("once: seconds for the teacher's outputs, computed once for all runs of an ablation")


class Clock:
    """When the steps ended. A GPU is waited for twice: after those that warm up, and at the end."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.started = time.perf_counter()
        self.once = 0.0
        self.ticks: list[tuple[float, int]] = []

    def prepared(self) -> None:
        """The work that is done once for all runs is done."""
        self.once = time.perf_counter() - self.started

    def tick(self, examples: int) -> None:
        """A step of that many examples is done."""
        if self.cuda and len(self.ticks) + 1 == WARM_UP:
            torch.cuda.synchronize()
        self.ticks.append((time.perf_counter(), examples))

    def result(self) -> dict[str, float]:
        """Examples and seconds of the steps after those that warm up."""
        if self.cuda:
            torch.cuda.synchronize()
        end = time.perf_counter() if self.cuda else self.ticks[-1][0]
        examples = sum(count for _, count in self.ticks[WARM_UP:])
        seconds = end - self.ticks[WARM_UP - 1][0]
        return {"examples": examples, "seconds": seconds, "once": self.once}


def _measure(name: str, asked: argparse.Namespace) -> dict[str, float]:
    """Seconds for the steps after the first few, and the process's peak memory."""
    work = make_workload(
        asked.shape, asked.examples, asked.batch_size, asked.data, asked.task, asked.device
    )
    clock = Clock(work.arithmetic.device)
    with tempfile.TemporaryDirectory() as folder:
        RUNNERS[name](work, Path(folder), clock, asked.steps)
        result = clock.result()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if clock.cuda:
        peak = torch.cuda.max_memory_allocated()
    return {**result, "peak": peak}


def _matched(work: Workload) -> list[int]:
    """Teacher layers (0-based) of the student layers but the last, as `pkd-skip` maps them."""
    return copied_layers("skip", work.layers, int(work.teacher.config.num_hidden_layers))[:-1]


def ours(work: Workload, folder: Path, clock: Clock, steps: int) -> None:
    """One student by this project, as a population of one; batches evenly from all lengths."""
    outputs = work.outputs(folder)
    clock.prepared()
    population = Population([_member(work)], work.recipe(outputs, epochs=2))
    batches = batches_of_all_lengths(population, steps)
    epoch = torch.tensor(0, device=work.arithmetic.device)
    for batch in batches[:WARM_UP] + batches:
        population.train_batch(torch.from_numpy(batch.rows)[None], batch.width, epoch)
        clock.tick(len(batch.rows))


def _member(work: Workload) -> Any:
    setting = {
        "temperature": TEMPERATURE,
        "kd_weight": KD_WEIGHT,
        "layer_weight": LAYER_WEIGHT,
        "learning_rate": RATE,
    }
    return work.member("pkd-skip", 1, **setting)


def plain(work: Workload, folder: Path, clock: Clock, steps: int, pad_to: int | None) -> None:
    """The loop of Hugging Face and PyTorch that is published with papers."""
    device = work.arithmetic.device
    student = _student(work).to(device).train()
    loader = list(islice(_loader(work, pad_to), WARM_UP + steps))
    optimizer, scheduler = _optimizer(student, len(loader))
    clock.prepared()
    for batch in loader:
        batch = {name: value.to(device) for name, value in batch.items()}
        terms = plain_terms(work, student, batch)
        loss = (1 - KD_WEIGHT) * terms["label"] + KD_WEIGHT * terms["kd"]
        loss = loss + LAYER_WEIGHT * terms["layer"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        loss.item()  # as loops do, for the progress bar
        clock.tick(len(batch["labels"]))


def plain_terms(
    work: Workload, student: PreTrainedModel, batch: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The three losses, written as in the published loops."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        teacher = work.teacher(**inputs, output_hidden_states=True)
    own = student(**inputs, output_hidden_states=True)
    kd = F.kl_div(
        F.log_softmax(own.logits / TEMPERATURE, dim=-1),
        F.softmax(teacher.logits / TEMPERATURE, dim=-1),
        reduction="batchmean",
    )
    distances = [
        F.mse_loss(
            F.normalize(own.hidden_states[layer + 1][:, 0], dim=-1),
            F.normalize(teacher.hidden_states[matched + 1][:, 0], dim=-1),
        )
        for layer, matched in enumerate(_matched(work))
    ]
    return {
        "label": F.cross_entropy(own.logits, batch["labels"]),
        "kd": kd * TEMPERATURE**2,
        "layer": torch.stack(distances).mean(),
    }


def textbrewer(work: Workload, folder: Path, clock: Clock, steps: int, pad_to: int | None) -> None:
    """TextBrewer's own `GeneralDistiller.train`, as in its examples; no checkpoint is written."""
    student = _student(work).to(work.arithmetic.device)
    distiller = _distiller(work, student, folder)
    loader = list(islice(_loader(work, pad_to), WARM_UP + steps))
    total = len(loader)

    class Ticking:
        """A batch that is asked for says that the one before is done."""

        def __len__(self) -> int:
            return total

        def __iter__(self) -> Iterator[Any]:
            for batch in loader:
                yield batch
                clock.tick(len(batch["labels"]))

    clock.prepared()
    with distiller:
        distiller.train(
            _optimizer(student, total)[0],
            Ticking(),
            num_epochs=1,
            scheduler_class=get_linear_schedule_with_warmup,
            scheduler_args={"num_warmup_steps": total // 10, "num_training_steps": total},
            max_grad_norm=1.0,
            callback=None,
            output_hidden_states=True,
        )


def _distiller(work: Workload, student: PreTrainedModel, folder: Path) -> Any:
    import textbrewer

    # The distance is of states scaled to unit length, of the first token, as everyone's here.
    def adapted(batch: dict[str, Tensor], outputs: Any) -> dict[str, Any]:
        states = [F.normalize(own[:, 0], dim=-1) for own in outputs.hidden_states[1:]]
        return {
            "logits": (outputs.logits,),
            "hidden": [own[:, None] for own in states],
            "losses": (outputs.loss,),
        }

    matches = [
        {
            "layer_T": matched,
            "layer_S": layer,
            "feature": "hidden",
            "loss": "hidden_mse",
            "weight": LAYER_WEIGHT / len(_matched(work)),
        }
        for layer, matched in enumerate(_matched(work))
    ]
    config = textbrewer.DistillationConfig(
        temperature=TEMPERATURE,
        kd_loss_weight=KD_WEIGHT * TEMPERATURE**2,
        hard_label_weight=1 - KD_WEIGHT,
        intermediate_matches=matches,
    )
    training = textbrewer.TrainingConfig(
        device=str(work.arithmetic.device), output_dir=str(folder), log_dir=None
    )
    distiller = textbrewer.GeneralDistiller(
        training, config, work.teacher, student, adapted, adapted
    )
    distiller.save_and_callback = lambda *unused: None
    return distiller


def _student(work: Workload) -> PreTrainedModel:
    config = work.blueprint.config
    model = build_classifier(config, work.blueprint.weights(1))
    # Hugging Face's own attention: what a peer's user gets without asking.
    model.set_attn_implementation("sdpa")
    work.teacher.set_attn_implementation("sdpa")
    return model


def _optimizer(student: PreTrainedModel, total: int) -> tuple[Any, Any]:
    decayed = [p for p in student.parameters() if p.ndim > 1]
    plain_ones = [p for p in student.parameters() if p.ndim <= 1]
    groups = [{"params": decayed}, {"params": plain_ones, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=0.01)
    return optimizer, get_linear_schedule_with_warmup(optimizer, total // 10, total)


def _loader(work: Workload, pad_to: int | None) -> Any:
    """Batches in random order, padded to `pad_to` or to their longest example."""
    inputs = work.inputs

    def collate(rows: list[int]) -> dict[str, Tensor]:
        longest = int(inputs.lengths[rows].max())
        batch = inputs.tokens(torch.device("cpu")).batch(torch.tensor(rows), pad_to or longest)
        return {**batch, "labels": work.labels[rows]}

    return DataLoader(
        range(len(inputs.lengths)),  # type: ignore[arg-type]
        batch_size=work.batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(0),
    )


RUNNERS: dict[str, Callable[[Workload, Path, Clock, int], None]] = {
    "harness": ours,
    "plain": partial(plain, pad_to=MAX_LENGTH),
    "plain-dynamic": partial(plain, pad_to=None),
    "textbrewer": partial(textbrewer, pad_to=MAX_LENGTH),
    "textbrewer-dynamic": partial(textbrewer, pad_to=None),
}


def compare_losses(names: list[str], asked: argparse.Namespace) -> None:
    """Stop unless all compute the same losses on the same batch, without dropout, in fp32.

    TextBrewer's distillation is the cross-entropy, without the teacher's entropy: that is added.
    """
    work = make_workload(asked.shape, 16, 8, asked.data, asked.task, asked.device, precision="fp32")
    rows = np.arange(8)
    with tempfile.TemporaryDirectory() as folder:
        expected = _our_terms(work, Path(folder) / "outputs", rows)
        width = int(work.inputs.lengths[rows].max())
        batch = work.inputs.tokens(work.arithmetic.device).batch(torch.from_numpy(rows), width)
        batch["labels"] = work.labels[torch.from_numpy(rows)].to(work.arithmetic.device)
        student = _student(work).to(work.arithmetic.device).eval()
        with torch.no_grad():
            found = {"plain": plain_terms(work, student, batch)}
            if any(name.startswith("textbrewer") for name in names):
                found["textbrewer"] = _textbrewer_terms(work, student, batch, Path(folder))
    for name, terms in found.items():
        for term, value in expected.items():
            # The cached states are in 16 bits.
            tolerance = 1e-4 if term != "layer" else 1e-3
            if abs(float(terms[term]) - value) > tolerance * max(abs(value), 1e-3):
                raise SystemExit(f"{name}: {term} is {float(terms[term]):.6f}, ours {value:.6f}")
    print(f"losses on one batch agree: {', '.join(found)}", file=sys.stderr)


def _our_terms(work: Workload, folder: Path, rows: Any) -> dict[str, float]:
    from harness.losses import distillation_loss, label_loss

    population = Population([_member(work)], work.recipe(work.outputs(folder), epochs=1))
    method = population.members[0].method
    assert method is not None
    index = torch.from_numpy(rows)
    (student,) = population.predict(work.inputs.part(rows), "cls")
    assert population.teacher is not None
    teacher = population.teacher.batch(index, torch.device("cpu"))
    labels = work.labels[index]
    terms = {
        "label": label_loss(student.logits, labels, False),
        "kd": distillation_loss(student.logits, teacher.logits, torch.tensor(TEMPERATURE), False),
        **method.cpu()(student, teacher, labels, Context(torch.tensor(0), {})),
    }
    return {name: float(value) for name, value in terms.items()}


def _textbrewer_terms(
    work: Workload, student: PreTrainedModel, batch: dict[str, Tensor], folder: Path
) -> dict[str, float]:
    distiller = _distiller(work, student, folder)
    _, losses = distiller.train_on_batch(batch, {"output_hidden_states": True})
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    shares = F.log_softmax(work.teacher(**inputs).logits / TEMPERATURE, dim=-1)
    entropy = -(shares.exp() * shares).sum(dim=-1).mean()
    layers = [value for name, value in losses.items() if "hidden_mse" in name]
    return {
        "label": float(losses["unweighted_hard_label_loss"]),
        "kd": float(TEMPERATURE**2 * (losses["unweighted_kd_loss"] - entropy)),
        "layer": float(torch.stack(layers).mean()),
    }


if __name__ == "__main__":
    sys.exit(main())
