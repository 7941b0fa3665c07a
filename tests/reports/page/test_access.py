"""axe's rules on a page of two tasks with all parts open, in both themes."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from reports import build
from reports.evidence import Evidence
from tests.reports.page.conftest import IN_CHROMIUM, Open

pytestmark = IN_CHROMIUM
OPEN_PARTS = """() => {
    for (const part of document.querySelectorAll("details:not(.tools, .numbers)")) part.open = true;
}"""


@pytest.mark.parametrize(("theme", "width"), [("light", 390), ("dark", 1440)])
def test_axe_finds_nothing(
    two_tasks: Evidence, tmp_path: Path, open_page: Open, theme: str, width: int
) -> None:
    assert build.main([str(tmp_path)]) == 0
    report = tmp_path / two_tasks.manifest.name / "report.html"
    opened = open_page(report, width=width, color_scheme=theme, bypass_csp=True)
    opened.page.evaluate(OPEN_PARTS)
    response = Axe().run(opened.page).response
    assert [(found["id"], found["nodes"][0]["html"]) for found in response["violations"]] == []
    assert {"color-contrast", "scrollable-region-focusable"} <= {
        rule["id"] for rule in response["passes"]
    }
