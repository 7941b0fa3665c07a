"""The methods paragraph of a paper: the protocol as the manifest has it, with citations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from harness.axis_names import value_text
from harness.config import FIRST_LOOK, LOOK_STEP
from harness.stats import first_look, wording
from harness.stats.stopping import STEP
from harness.storage.manifest import Manifest, MethodCard
from reports.evidence import POINTS, Evidence
from reports.page.paper.bibliography import NO_PAPER, bibtex, keys_of
from reports.page.paper.latex import comment, escape
from reports.page.summary import CRITERIA

HOLM, OPTUNA = "holm1979simple", "akiba2019optuna"


def references(evidence: Evidence) -> str:
    """The BibTeX of all papers that the paragraph cites."""
    manifest = evidence.manifest
    keys = [key for method in evidence.methods for key in keys_of(manifest.methods[method])]
    return bibtex([*keys, *_protocol_keys(manifest)])


def _protocol_keys(manifest: Manifest) -> Iterator[str]:
    if manifest.config.search.sampler == "tpe":
        yield OPTUNA
    if manifest.family and not manifest.sequential:
        yield HOLM


def methods_paragraph(evidence: Evidence) -> str:
    """The protocol in LaTeX: teachers, students, trials, unit, level, family, correction, margins."""
    manifest = evidence.manifest
    head = comment(f"{manifest.name}; \\cite takes its keys from the BibTeX of the same report")
    sentences = [
        *_subjects(evidence),
        *_teachers(evidence),
        *_runs(manifest),
        *_tests(evidence),
        *_left_out(evidence),
        *(escape(banner) for banner in evidence.result.banners),
    ]
    return head + "\n".join(sentences) + "\n"


def _subjects(evidence: Evidence) -> Iterator[str]:
    """The methods, the tasks and the students."""
    manifest = evidence.manifest
    names = [
        _cited(manifest.methods[name]) for name in evidence.methods if name != manifest.baseline
    ]
    against = ""
    if manifest.baseline is not None and manifest.baseline in manifest.methods:
        against = f" with {_cited(manifest.methods[manifest.baseline])}"
    verb = "compared" if against else "trained"
    tasks = [_task(evidence, task) for task in evidence.tasks]
    yield f"We {verb} {_listed(names)}{against} on {_listed(dict.fromkeys(tasks))}."
    if manifest.grid is not None:
        axes = "; ".join(
            f"{key} = {', '.join(map(value_text, values))}"
            for key, values in manifest.grid.axes.items()
        )
        yield (
            f"Each task was studied in {len(manifest.grid.cells)} cells ({escape(axes)}); numbers below "
            "that differ between cells are those of the first."
        )
    training = manifest.config.training
    epochs = f"{training.epochs} epoch{'' if training.epochs == 1 else 's'}"
    sizes = escape(f"We trained {manifest.students} for {epochs}, batch size {training.batch_size}")
    yield f"{sizes}."


def _task(evidence: Evidence, task: str) -> str:
    grid = evidence.manifest.grid
    name = task if grid is None else grid.places[task].task
    examples = ", ".join(
        f"{size} in {split}" for split, size in evidence.manifest.tasks[task].sizes.items()
    )
    return escape(f"{name} ({evidence.metric(task)}; examples: {examples})")


def _cited(card: MethodCard) -> str:
    """A method with its citation, or with the card's own words on its paper."""
    keys = keys_of(card)
    if keys:
        return f"{escape(card.name)}~\\cite{{{','.join(keys)}}}"
    return escape(card.name if card.paper in NO_PAPER else f"{card.name} ({card.paper})")


def _teachers(evidence: Evidence) -> Iterator[str]:
    texts = {
        f"{teacher.name} with {teacher.layers} layers of width {teacher.width}, {teacher.origin}"
        for teacher in evidence.teachers.values()
    }
    yield escape(f"Teachers, one for each task: {'; '.join(sorted(texts))}.")
    for task, teacher in evidence.teachers.items():
        if teacher.second_recipe:
            yield escape(f"On {task}: {teacher.second_recipe}")


def _runs(manifest: Manifest) -> Iterator[str]:
    """What was trained, what selected, and what was scored."""
    config = manifest.config
    yield _selection(manifest)
    if config.protocol.unit == "methods":
        count = str(manifest.trials)
        if manifest.sequential:
            count = f"at most {manifest.trials}"
        yield (
            f"On each task each method had {count} independent trials. A trial draws its setting at "
            "random, trains one run with a seed of its own, and is scored on the selection split and "
            "on the reported split. "
            f"A method's tuned score at a budget of {_count(config.protocol.budget, 'trial')} is the "
            "mean reported score of the trial that has the best selection score, over all subsets of "
            f"{_count(config.protocol.budget, 'trial')}. A failed trial counts as a constant "
            "prediction."
        )
    else:
        yield _search(manifest)
    if manifest.is_joint:
        done = sum(name is not None for name in manifest.repeats)
        yield (
            f"All of this was repeated {config.protocol.repeats} times with new "
            f"{escape(str(manifest.replication))}"
            f"{'' if done == config.protocol.repeats else f'; {done} repeats could be trained'}."
        )


def _selection(manifest: Manifest) -> str:
    criterion = escape(CRITERIA[manifest.config.search.criterion])
    if manifest.protocol == "paper":
        return f"Settings were selected on the reported split itself, by {criterion}."
    is_demo = manifest.source.kind == "demo"
    split = "a split of their own" if is_demo else "a part of the training split"
    return f"Settings were selected on {split}, by {criterion}, and never on the reported split."


def _search(manifest: Manifest) -> str:
    config = manifest.config
    sampler = "random search"
    if config.search.sampler == "tpe":
        sampler = f"the TPE sampler of Optuna~\\cite{{{OPTUNA}}}"
    seeds = config.protocol.seeds if manifest.is_joint else len(manifest.report_seeds)
    count = f"{'at most ' if manifest.sequential else ''}{_count(seeds, 'report seed')}"
    text = (
        f"For each method {sampler} tried {_count(manifest.trials, 'setting')}, each with "
        f"{_count(config.search.seeds, 'seed')}. The best setting was then trained with {count}."
    )
    if config.search.rungs:
        rungs = _listed([str(rung) for rung in config.search.rungs])
        text += f" After epoch {rungs} the worse half of each round of settings was stopped."
    return text


def _tests(evidence: Evidence) -> Iterator[str]:
    """The unit of replication, the tests, the family's level and the margins."""
    manifest = evidence.manifest
    if not manifest.family:
        yield "No comparison was planned."
        return
    about = {
        "trial": "trials (setting and seed), by an exchange test of the two methods' trials. "
        "Verdicts are about the methods over new searches with this teacher",
        "repeat": "repeats, by a paired sign-flip test. Verdicts are about the methods over new "
        f"{escape(str(manifest.replication))}",
        "seed": "report seeds, by a paired sign-flip test. Verdicts are about these settings over new "
        "seeds with this teacher, and not about the methods",
    }
    yield f"The units of replication are {about[manifest.unit]}."
    numbers = sorted({pair.difference.n for pair in evidence.result.comparisons})
    if numbers:
        span = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
        yield f"Each comparison has n = {span}."
    count = len(manifest.family)
    family = "The one comparison was" if count == 1 else f"The {count} comparisons were"
    level = f"{manifest.alpha:g}"
    margins = _margins(evidence)
    if manifest.sequential:
        yield (
            f"{family} tested at a family-wise level of {level}, an even share for each. "
            f"{_looks(manifest)} The level is spent over the looks by the share of the runs to the "
            "power of 1.5; intervals are repeated intervals. "
            f"Equivalence was tested at every look with a margin of {margins}."
        )
        return
    yield (
        f"{family} tested at a family-wise level of {level} with Holm's "
        f"method~\\cite{{{HOLM}}}. Equivalence was tested by two one-sided tests of the same kind with "
        f"a margin of {margins}, in a family of its own."
    )
    if manifest.grid is not None and manifest.grid.family:
        yield (
            f"Differences of a method between cells are another family of {len(manifest.grid.family)}."
        )


def _looks(manifest: Manifest) -> str:
    if manifest.unit == "trial":
        first = min(FIRST_LOOK, manifest.trials)
        return (
            f"Looks were taken at {first} trials of each method and after every {LOOK_STEP} further "
            f"trials, until every comparison was decided or had {manifest.trials}."
        )
    most = len(manifest.report_seeds)
    return (
        f"Report seeds were added, with looks at {first_look(most, manifest.share)} and after every "
        f"{STEP} further seeds, until every comparison was decided or had {most}."
    )


def _margins(evidence: Evidence) -> str:
    margins: Mapping[str, float] = {
        metric: evidence.manifest.margin(metric) for metric in map(evidence.metric, evidence.tasks)
    }
    texts = [
        f"{wording.unsigned_points(value, POINTS)} of {metric}" for metric, value in margins.items()
    ]
    return escape(_listed(texts))


def _left_out(evidence: Evidence) -> Iterator[str]:
    """What is missing: refused tasks and methods, and failed runs."""
    manifest = evidence.manifest
    if manifest.refused:
        reasons = "; ".join(f"{name} ({reason})" for name, reason in manifest.refused.items())
        yield escape(f"Left out: {reasons}.")
    failed = sum(record.status == "failed" for record in evidence.records())
    if failed:
        yield f"{_count(failed, 'run')} failed."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _listed(texts: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    names: Sequence[str] = list(texts)
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
