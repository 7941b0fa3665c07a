"""A self-contained HTML document: texts are escaped, only its own scripts run, nothing is loaded."""

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
from reports.kit.drawing import true_minus
from reports.page.rows import body_row, glyph, heading_row

COMPRESSION_LEVEL = 6
"""Level of gzip: the highest level takes three times as long and saves another 2 %."""
MANY_ROWS = 40
"""The most rows of a table that is shown in full; a longer table scrolls in its own window."""
_JSON_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def figures_document(template: str, panels: Sequence[Panel], **values: Any) -> str:
    """Fill a template that has the figures of `panels`, numbered from 1 in their order."""
    scripts = [
        script(name) for name in ("page.js", "tables.js", "figures.js", "choices.js", "picker.js")
    ]
    data = "\n".join(map(_line, panels))
    library = plotly.offline.get_plotlyjs()
    return document(template, scripts, library, data, many_rows=MANY_ROWS, **values)


def _line(panel: Panel) -> str:
    """A panel's figure and its numbers as a line of JSON."""
    return f'{{"figure": {panel.figure.to_json()}, "numbers": {json.dumps(panel.numbers.csv)}}}'


def document(
    template: str, scripts: Sequence[str], library: str = "", data: str = "", **values: Any
) -> str:
    """Fill a template. The policy in the page's head lets only `scripts` and `library` run.

    The policy names a script by its SHA-256, so that a text from the ledger does not run, even if it
    reaches the page as markup. The policy allows all styles, because Plotly writes styles. The page
    holds `library`, a script, and `data` packed; `scripts` unpack them. Both may be empty.
    """
    elements = [Markup(script) for script in scripts]  # noqa: S704 - scripts of the package
    allowed_scripts = [*scripts, library] if library else scripts
    policy = Markup(  # noqa: S704 - hashes
        f"default-src 'none'; script-src {' '.join(map(_source_hash, allowed_scripts))}; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template(template)
        .render(
            policy=policy, scripts=elements, library=_pack_once(library), data=pack(data), **values
        )
    )


def script(name: str) -> str:
    """The text of a script that lies with the templates."""
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def pack(text: str) -> str:
    """A text as base64 of its gzip stream; equal texts give equal results; empty for an empty text."""
    return (
        base64.b64encode(gzip.compress(text.encode(), COMPRESSION_LEVEL, mtime=0)).decode()
        if text
        else ""
    )


def json_text(values: Any) -> Markup:
    """Values as JSON that cannot end the script element around the JSON."""
    return safe_json(json.dumps(values, ensure_ascii=False))


def safe_json(text: str) -> Markup:
    """JSON with escapes for all characters that have a meaning in HTML."""
    return Markup(text.translate(_JSON_ESCAPES))  # noqa: S704


def slug(text: str) -> str:
    """A text as a part of an address or a file name; may be empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]


def _source_hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


_pack_once = cache(pack)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "json": json_text,
        "slug": slug,
        "glyph": glyph,
        "true_minus": true_minus,
    }
    environment.filters |= {"heading_row": heading_row, "body_row": body_row}
    return environment
