"""The methods paragraph: its sentences are those of the manifest, whatever the protocol is."""

import re
from dataclasses import replace
from typing import Any

import pytest

from reports.evidence import Evidence
from reports.page.paper.protocol import methods_paragraph, references
from tests.manifests import manifest
from tests.reports.conftest import MANIFEST


def paragraph(evidence: Evidence, **changes: Any) -> str:
    """The paragraph of the ablation with other entries of its manifest."""
    config = {**MANIFEST["config"], **changes.pop("config", {})}
    changed = manifest(**{**MANIFEST, **changes, "config": config})
    return methods_paragraph(replace(evidence, result=replace(evidence.result, manifest=changed)))


def test_two_settings(evidence: Evidence) -> None:
    text = methods_paragraph(evidence)
    for sentence in (
        r"We compared alp~\cite{passban2021alp} with finetune on rte (accuracy; examples: 90 in train,",
        "for 2 epochs, batch size 32.",
        "Teachers, one for each task: demo-teacher with 3 layers of width 8, fine-tuned here.",
        "Settings were selected on a split of their own, by the first metric, ties by the loss",
        "For each method random search tried 2 settings, each with 1 seed.",
        "The best setting was then trained with 3 report seeds.",
        "Verdicts are about these settings over new seeds with this teacher, and not about the methods.",
        "Each comparison has n = 3.",
        r"The one comparison was tested at a family-wise level of 0.05 with Holm's method",
        "a margin of 1 point of accuracy, in a family of its own.",
        "DEMO DATA: made up, says nothing about GLUE.",
    ):
        assert sentence in text
    assert "budget" not in text
    assert "Looks" not in text


def test_methods_that_are_tuned(evidence: Evidence) -> None:
    config = {"protocol": {"budget": 3, "margins": {"accuracy": 0.005}}, "search": {"trials": 30}}
    text = paragraph(evidence, unit="methods", config=config, trials=30, alpha=0.1)
    assert "each method had 30 independent trials" in text
    assert "tuned score at a budget of 3 trials" in text
    assert "by an exchange test of the two methods' trials" in text
    assert "about the methods over new searches with this teacher" in text
    assert "family-wise level of 0.1" in text
    assert "margin of 0.5 points of accuracy" in text
    assert "report seed" not in text


def test_added_trials(evidence: Evidence) -> None:
    text = paragraph(evidence, unit="methods", stopping="sequential", trials=60)
    assert "each method had at most 60 independent trials" in text
    assert "Looks were taken at 20 trials of each method and after every 10 further trials" in text
    assert "decided or had 60" in text
    assert "repeated intervals" in text
    assert "Holm" not in text


def test_added_seeds(evidence: Evidence) -> None:
    text = paragraph(evidence, stopping="sequential")
    assert "was then trained with at most" in text
    assert "looks at 3 and after every 2 further seeds, until every comparison was decided" in text
    assert "Holm" not in text


def test_repeats(evidence: Evidence) -> None:
    changes = {
        "repeats": ["a", "b", None],
        "replication": "teachers, searches and seeds",
        "report_seeds": [0, 1, 2],
        "config": {"protocol": {"repeats": 3, "budget": 1}},
    }
    text = paragraph(evidence, unit="methods", **changes)
    assert (
        "All of this was repeated 3 times with new teachers, searches and seeds; 2 repeats" in text
    )
    assert "The units of replication are repeats, by a paired sign-flip test." in text
    assert "over new teachers, searches and seeds" in text


def test_selection_on_the_reported_split_is_said(evidence: Evidence) -> None:
    text = paragraph(evidence, protocol="paper", source={"kind": "hub", "folder": None})
    assert "Settings were selected on the reported split itself" in text
    text = paragraph(evidence, source={"kind": "hub", "folder": None})
    assert "selected on a part of the training split" in text
    assert "never on the reported split" in text


def test_searches_of_optuna_and_stopped_settings(evidence: Evidence) -> None:
    config = {"search": {"sampler": "tpe", "rungs": [1], "trials": 8, "seeds": 2}}
    text = paragraph(evidence, config=config, trials=8)
    assert (
        r"the TPE sampler of Optuna~\cite{akiba2019optuna} tried 8 settings, each with 2 seeds"
        in text
    )
    assert "After epoch 1 the worse half" in text


def test_no_baseline_and_a_paper_without_an_entry(evidence: Evidence) -> None:
    cards = {"alp": {"paper": "Smith_2030"}}
    text = paragraph(evidence, baseline=None, family=[], methods=cards)
    assert r"We trained finetune and alp (Smith\_2030) on rte" in text or (
        r"We trained alp (Smith\_2030) and finetune on rte" in text
    )
    assert "No comparison was planned." in text


def test_what_is_left_out_is_said(evidence: Evidence) -> None:
    text = paragraph(evidence, refused={"wnli": "weak & 5%"})
    assert r"Left out: wnli (weak \& 5\%)." in text


@pytest.mark.parametrize("changes", [{}, {"stopping": "sequential"}])
def test_every_citation_has_its_entry(evidence: Evidence, changes: dict[str, Any]) -> None:
    changed = manifest(**{**MANIFEST, **changes})
    shown = replace(evidence, result=replace(evidence.result, manifest=changed))
    cited = {
        key
        for group in re.findall(r"\\cite\{([^}]*)\}", methods_paragraph(shown))
        if not group.startswith(" ")
        for key in group.split(",")
    }
    assert cited == set(re.findall(r"^@\w+\{(.*),", references(shown), re.MULTILINE))
