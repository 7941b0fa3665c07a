"""From the ledger to verdicts: an ablation's results and comparisons. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from harness.analysis.answers import StoredAnswers
from harness.analysis.axes import along_axes
from harness.analysis.comparison import BOOTSTRAP_SEED, Awaited, Comparison
from harness.analysis.decisions import drafts
from harness.analysis.pair_bootstraps import PairBootstraps
from harness.analysis.pairs import Pair, pair_results
from harness.analysis.repeats import read_repeats
from harness.analysis.results import MethodResult, collapse_warning, read_results
from harness.metric_table import metric_of
from harness.storage.checksums import Damage
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest


@dataclass(frozen=True)
class AblationResult:
    """An ablation's manifest, its results by (task, method), and the family's comparisons.

    `gaps` are sentences on the comparisons that cannot be made yet, and why. `damages` are the stored
    rows that are left out, since they have changed.
    """

    manifest: Manifest
    results: tuple[MethodResult, ...]
    comparisons: Sequence[Comparison]
    gaps: tuple[str, ...]
    damages: tuple[Damage, ...] = ()
    along_axes: Sequence[Comparison] = ()
    """The comparisons along the axes, by the names of `harness.analysis.axes.axis_names`."""

    @property
    def banners(self) -> tuple[str, ...]:
        """The manifest's banners, and one for each row that is left out."""
        texts = (f"DAMAGED, and left out: {damage.sentence}." for damage in self.damages)
        return (*self.manifest.banners, *texts)

    @property
    def sequential(self) -> bool:
        """Whether seeds or trials were added until the comparisons were decided."""
        return self.manifest.sequential

    def result(self, task: str, method: str) -> MethodResult | None:
        """The result of a method on a task, or None."""
        for result in self.results:
            if (result.task, result.method) == (task, method):
                return result
        return None

    def settled(self) -> AblationResult:
        """The result whose comparisons are made; waits for them where they are not."""
        comparisons, along_axes = tuple(self.comparisons), tuple(self.along_axes)
        return replace(self, comparisons=comparisons, along_axes=along_axes)


@dataclass(frozen=True)
class Summary:
    """An ablation's result while its intervals over new examples are computed; without `damages`."""

    draft: AblationResult
    """The result without intervals over new examples: with the verdicts that it has if no predictions
    are stored."""
    result: AblationResult
    """The result, whose comparisons wait for their intervals when they are looked at."""


def summarise(ledger: Ledger, ablation: str) -> AblationResult:
    """Read one ablation's results and make the comparisons of its manifest's family.

    Raises `StorageError` if there is no such ablation.
    """
    with summarising(ledger, ablation, StoredAnswers(ledger)) as summary:
        return with_damages(ledger, summary.result.settled())


@contextmanager
def summarising(ledger: Ledger, ablation: str, stored_answers: StoredAnswers) -> Iterator[Summary]:
    """`summarise` that computes the intervals over new examples beside the work of the block.

    The ledger's `stored_answers` hold the predictions for further analyses. The threads read no ledger.
    Raises `StorageError` if there is no such ablation.
    """
    result = read_ablation(ledger, ablation)
    with PairBootstraps() as bootstraps:
        family = _compare(result, stored_answers, bootstraps)
        along = _Comparisons((), (), tuple)
        if result.manifest.grid is not None:
            view = AblationResult(*along_axes(result.manifest, result.results), (), ())
            along = _compare(view, stored_answers, bootstraps)
        result = replace(result, gaps=family.gaps + along.gaps)
        yield Summary(
            replace(result, comparisons=family.drafts, along_axes=along.drafts),
            replace(result, comparisons=Awaited(family.settle), along_axes=Awaited(along.settle)),
        )


def with_damages(ledger: Ledger, result: AblationResult) -> AblationResult:
    """The result with all damages that reads have found so far."""
    damages = ledger.damages_in(_study_names(ledger, result.manifest))
    return replace(result, damages=tuple(damages))


def _study_names(ledger: Ledger, manifest: Manifest) -> list[str]:
    """The studies of an ablation, or of all its repeats."""
    parts = [ledger.manifest(name) for name in manifest.repeats if name is not None]
    return [name for part in parts or [manifest] for name in part.study_names]


def read_ablation(ledger: Ledger, ablation: str) -> AblationResult:
    """Read one ablation's results, without comparisons.

    Raises `StorageError` if there is no such ablation.
    """
    manifest = ledger.manifest(ablation)
    results = (
        read_repeats(ledger, manifest)
        if manifest.is_joint
        else tuple(
            result
            for task, studies in manifest.studies.items()
            for result in read_results(ledger, manifest.view_of(task), task, studies)
        )
    )
    return AblationResult(manifest, results, (), ())


def collapses(result: AblationResult) -> list[str]:
    """A sentence on each method with report runs that have the score of a constant prediction.

    Empty for repeats: the result of each repeat has these sentences.
    """
    if result.manifest.is_joint:
        return []
    tasks = result.manifest.tasks
    sentences = (collapse_warning(r, tasks[r.task].constant) for r in result.results)
    return [sentence for sentence in sentences if sentence is not None]


@dataclass(frozen=True)
class _Comparisons:
    """A family's comparisons; `gaps` are sentences on those that cannot be made yet."""

    drafts: tuple[Comparison, ...]
    gaps: tuple[str, ...]
    settle: Callable[[], tuple[Comparison, ...]]


def _compare(
    result: AblationResult, stored_answers: StoredAnswers, bootstraps: PairBootstraps
) -> _Comparisons:
    manifest = result.manifest
    pairs, gaps = [], []
    for task, method, baseline in manifest.family:
        name = f"{method} against {baseline} on {task}"
        pair = pair_results(result.result(task, method), result.result(task, baseline), manifest)
        if isinstance(pair, str):
            gaps.append(f"{name}: {pair}")
            continue
        if _is_undefined(pair, stored_answers):
            metric = pair.method_result.metric
            gaps.append(
                f"{name}: no comparison, since each run of both gives one answer to all examples: "
                f"{metric} is undefined there, and counts as 0"
            )
            continue
        pairs.append(pair)
    wait = bootstraps.start(stored_answers, pairs, 1 - manifest.share, BOOTSTRAP_SEED)
    family = drafts(manifest, pairs)
    return _Comparisons(
        tuple(draft.comparison for draft in family),
        tuple(gaps),
        lambda: tuple(
            draft.with_interval(interval) for draft, interval in zip(family, wait(), strict=True)
        ),
    )


def _is_undefined(pair: Pair, stored_answers: StoredAnswers) -> bool:
    """Whether the metric is undefined for the answers of every run on both sides.

    Such scores are 0 by convention: they are equal, and say nothing about the methods.
    """
    for result in (pair.method_result, pair.baseline_result):
        is_undefined = metric_of(result.metric).is_undefined
        answers = stored_answers.answers_of(result)
        if answers is None or any(
            not is_undefined(answers.labels, values) for values in answers.by_seed.values()
        ):
            return False
    return True
