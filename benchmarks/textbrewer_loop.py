"""The training of one student by TextBrewer, as the loops of `benchmarks.loops`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from benchmarks.loops import (
    KD_WEIGHT,
    LAYER_WEIGHT,
    TEMPERATURE,
    WARM_UP,
    Clock,
    loader_of,
    new_student,
    optimizer_of,
    teacher_layers,
)
from benchmarks.workload import Workload


def textbrewer(work: Workload, folder: Path, clock: Clock, steps: int, pad_to: int | None) -> None:
    """Train the student by TextBrewer's `GeneralDistiller.train`, without checkpoints."""
    student = new_student(work).to(work.arithmetic.device)
    distiller = _distiller(work, student, folder)
    loader = list(islice(loader_of(work, pad_to), WARM_UP + steps))
    total = len(loader)

    class TickingBatches:
        """Batches; a request for the next batch ends the step before."""

        def __len__(self) -> int:
            return total

        def __iter__(self) -> Iterator[Any]:
            for batch in loader:
                yield batch
                clock.tick(len(batch["labels"]))

    clock.end_preparation()
    with distiller:
        distiller.train(
            optimizer_of(student, total)[0],
            TickingBatches(),
            num_epochs=1,
            scheduler_class=get_linear_schedule_with_warmup,
            scheduler_args={"num_warmup_steps": total // 10, "num_training_steps": total},
            max_grad_norm=1.0,
            callback=None,
            output_hidden_states=True,
        )


def _distiller(work: Workload, student: PreTrainedModel, folder: Path) -> Any:
    import textbrewer

    # The distance is between states of the first token, scaled to unit length, as in the other loops.
    def adaptor(batch: dict[str, Tensor], outputs: Any) -> dict[str, Any]:
        states = [F.normalize(state[:, 0], dim=-1) for state in outputs.hidden_states[1:]]
        return {
            "logits": (outputs.logits,),
            "hidden": [state[:, None] for state in states],
            "losses": (outputs.loss,),
        }

    matches = [
        {
            "layer_T": teacher_layer,
            "layer_S": layer,
            "feature": "hidden",
            "loss": "hidden_mse",
            "weight": LAYER_WEIGHT / len(teacher_layers(work)),
        }
        for layer, teacher_layer in enumerate(teacher_layers(work))
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
        training, config, work.teacher, student, adaptor, adaptor
    )
    distiller.save_and_callback = lambda *arguments: None
    return distiller


def textbrewer_terms(
    work: Workload, student: PreTrainedModel, batch: dict[str, Tensor], folder: Path
) -> dict[str, float]:
    """TextBrewer's three losses on a batch; the teacher's entropy turns its cross-entropy into KD."""
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
