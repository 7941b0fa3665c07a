"""Failures of the hub's clients, explained in one line."""

from __future__ import annotations

from collections.abc import Iterator

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from harness.errors import first_line


def hub_reason(error: BaseException) -> str:
    """The reason why the hub's clients cannot load a model or data set.

    The clients raise many unrelated types and wrap errors in errors, so the search covers all causes.
    """
    causes = list(_causes(error))
    for kind, reason in (
        (HFValidationError, "it is not a valid name of a repository"),
        (GatedRepoError, "it is gated: accept its conditions on its page, then `hf auth login`"),
        (RepositoryNotFoundError, "the hub has no such repository, or it is private"),
        (RevisionNotFoundError, "it has no such revision"),
        (
            OfflineModeIsEnabled,
            "it is not in the local cache, and HF_HUB_OFFLINE forbids downloads",
        ),
    ):
        if any(isinstance(cause, kind) for cause in causes):
            return reason
    text = " ".join(str(cause) for cause in causes)
    if "gated dataset" in text:
        return "it is gated: accept its conditions on its page, then `hf auth login`"
    if "doesn't exist on the Hub" in text:
        return "the hub has no such repository, or it is private"
    if "OfflineModeIsEnabled" in text:
        return "it is not in the local cache, and HF_HUB_OFFLINE forbids downloads"
    if "peer closed connection" in text:
        return "the connection broke off; the same command downloads the rest"
    if any(isinstance(cause, LocalEntryNotFoundError | ConnectionError) for cause in causes):
        return "the hub cannot be reached, and it is not in the local cache"
    if any(isinstance(cause, HfHubHTTPError) for cause in causes):
        return f"the hub refuses: {first_line(error)}"
    return f"{type(error).__name__}: {first_line(error)}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
