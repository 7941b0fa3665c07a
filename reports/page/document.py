"""A self-contained HTML document: texts escaped, no request to anywhere, only its own scripts run."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import jinja2
import plotly.offline
from markupsafe import Markup

from reports.kit.blocks import Panel

LEVEL = 6
"""Of compression: the highest takes three times as long to save another 2 %."""
MANY_ROWS = 40
"""A table with more rows scrolls in a window of its own."""
_JSON_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def drawn_document(template: str, panels: Sequence[Panel], **values: Any) -> str:
    """Fill a template whose figures are these panels', numbered from 1 in that order."""
    scripts = [script(name) for name in ("page.js", "tables.js", "figures.js", "choices.js")]
    data = "\n".join(map(_line, panels))
    library = plotly.offline.get_plotlyjs()
    return document(template, scripts, library, data, many_rows=MANY_ROWS, **values)


def _line(panel: Panel) -> str:
    """A panel's figure and its numbers as a line of JSON."""
    return f'{{"figure": {panel.figure.to_json()}, "numbers": {json.dumps(panel.numbers.csv)}}}'


def document(
    template: str, scripts: Sequence[str], library: str = "", data: str = "", **values: Any
) -> str:
    """Fill a template. The policy in its head lets these scripts run, and nothing else.

    A policy names a script by its SHA-256, so that a text from the ledger which reached the page as
    markup would still not run. Styles may stand anywhere: Plotly writes them. `library`, a script, and
    `data` lie in the page packed, for the others to unpack; empty for none.
    """
    shown = [Markup(script) for script in scripts]  # noqa: S704 - scripts of the package
    run = [*scripts, library] if library else scripts
    policy = Markup(  # noqa: S704 - hashes
        f"default-src 'none'; script-src {' '.join(map(_source, run))}; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template(template)
        .render(
            policy=policy, scripts=shown, library=_packed_once(library), data=packed(data), **values
        )
    )


def script(name: str) -> str:
    """The text of a script of the package."""
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def packed(text: str) -> str:
    """A text as base64 of its gzip stream, always the same one; empty for an empty text."""
    return base64.b64encode(gzip.compress(text.encode(), LEVEL, mtime=0)).decode() if text else ""


def json_text(values: Any) -> Markup:
    """Values as JSON that cannot end the script element it stands in."""
    return safe_json(json.dumps(values, ensure_ascii=False))


def safe_json(text: str) -> Markup:
    """JSON in which no character with a meaning in HTML is left."""
    return Markup(text.translate(_JSON_ESCAPES))  # noqa: S704


def slug(text: str) -> str:
    """A text as a part of an address or a file name; it may be empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]


def _source(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


_packed_once = cache(packed)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"json": json_text, "slug": slug}
    return environment
