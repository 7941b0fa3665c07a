"""The tokens of one side, teacher or students, from its own tokenizer."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from harness.config import StudyConfig
from harness.data.facts import fact_warnings, refuse_unknown, split_facts, token_shares
from harness.data.splits import TaskData
from harness.data.tokens import EncodedSplit, encoded_split
from harness.models.checkpoints import check_fits, tokenizer_fingerprint, tokenizer_of
from harness.runtime.progress import say
from harness.storage.fingerprint import fingerprint
from harness.storage.manifest import SplitFacts

TOKENS_VERSION = 2
"""The version of the folders of tokens. Another version tokenises anew."""


def side_inputs(
    config: StudyConfig,
    data: TaskData,
    cache: Path,
    splits: Collection[str] | None,
    tokenizer_folder: Path,
    encoders: Collection[Path],
    side: str = "",
) -> tuple[dict[str, EncodedSplit], dict[str, SplitFacts]]:
    """Tokenise a task's splits for encoders, check that these fit, and say the facts of the tokens.

    Arguments as in `outline_task`; `side` begins the lines that are said.

    Raises:
        TeacherError: an encoder does not fit, or the tokenizer knows too few tokens.
    """
    tokenizer = tokenizer_of(tokenizer_folder)
    max_length, name = config.training.max_length, data.task.name
    identity = [TOKENS_VERSION, tokenizer_fingerprint(tokenizer_folder), max_length]
    inputs = {
        split_name: encoded_split(
            cache / "tokens" / fingerprint([*identity, split.sha256])[:32],
            split,
            tokenizer,
            max_length,
        )
        for split_name, split in (data.splits | data.unlabelled | data.test).items()
        if splits is None or split_name in splits
    }
    for folder in encoders:
        check_fits(folder, inputs.values(), max_length)
    facts = split_facts(data, inputs)
    say(f"{name}: {side}{token_shares(facts, max_length)}")
    for sentence in fact_warnings(name, facts, config.checks, max_length):
        say(f"warning: {side}{sentence}")
    refuse_unknown(name, tokenizer_folder, facts, config.checks)
    return inputs, facts
