"""Facts of a task's splits: counts that say what scores on them can mean, in words and as a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.config import ChecksConfig
from harness.data.splits import TaskData
from harness.data.tokens import EncodedSplit
from harness.errors import TeacherError
from harness.storage.manifest import SplitFacts


def split_facts(data: TaskData, inputs: Mapping[str, EncodedSplit]) -> dict[str, SplitFacts]:
    """The facts of the splits that are tokenised, by name."""
    splits = data.splits | data.unlabelled | data.test
    return {
        name: SplitFacts(
            examples=len(splits[name]),
            left_out=splits[name].left_out,
            duplicates=data.duplicates.get(name),
            truncated=tokens.counts.truncated,
            words=tokens.counts.words,
            unknown=tokens.counts.unknown,
        )
        for name, tokens in inputs.items()
    }


def token_shares(facts: Mapping[str, SplitFacts], max_length: int) -> str:
    """The shares of cut examples and of unknown tokens by split, in words."""
    cuts = _shares(facts, lambda split: split.truncated_share)
    unknown = _shares(facts, lambda split: split.unknown_share)
    return f"examples cut at {max_length} tokens: {cuts}; unknown tokens: {unknown}"


def fact_warnings(
    task: str, facts: Mapping[str, SplitFacts], checks: ChecksConfig, max_length: int
) -> list[str]:
    """A sentence for each share that is above the usual one."""
    sentences = []
    cut = {k: v for k, v in facts.items() if v.truncated_share > checks.usual_truncated}
    if cut:
        sentences.append(
            f"{task}: {_shares(cut, lambda split: split.truncated_share)} have more than {max_length} "
            "tokens, and their ends are cut off: a larger training.max_length cuts fewer."
        )
    strange = {k: v for k, v in facts.items() if v.unknown_share > checks.usual_unknown}
    if strange:
        sentences.append(
            f"{task}: the tokenizer does not know {_shares(strange, lambda split: split.unknown_share)}"
            ": it may belong to another encoder, language or case."
        )
    doubled = {k: v for k, v in facts.items() if k != "selection"}
    doubled = {k: v for k, v in doubled.items() if v.duplicate_share > ChecksConfig.most_duplicates}
    if doubled:
        sentences.append(
            f"{task}: {_shares(doubled, lambda split: split.duplicate_share)} have the texts of "
            "training examples: scores on them say little about new examples."
        )
    return sentences


def refuse_unknown(
    task: str, folder: object, facts: Mapping[str, SplitFacts], checks: ChecksConfig
) -> None:
    """Refuse a tokenizer that knows too few of the tokens. Raises `TeacherError`."""
    for name, split in facts.items():
        if split.unknown_share > checks.most_unknown:
            share = f"{100 * split.unknown_share:.1f} %"
            raise TeacherError(
                f"{task}: the tokenizer of {folder} does not know {share} of the tokens of the split "
                f"'{name}': it belongs to another encoder, language or case "
                "(checks.most_unknown=1.0 allows it)"
            )


def _shares(facts: Mapping[str, SplitFacts], share: Callable[[SplitFacts], float]) -> str:
    return ", ".join(f"{100 * share(split):.1f} % of {name}" for name, split in facts.items())
