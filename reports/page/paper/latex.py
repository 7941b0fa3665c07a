"""Texts in LaTeX."""

from __future__ import annotations

_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
        "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "{''}", "[": "{[}",
        "]": "{]}", "\N{MINUS SIGN}": "$-$", "\N{EN DASH}": "--", "\N{PLUS-MINUS SIGN}": r"$\pm$",
        "\N{MULTIPLICATION SIGN}": r"$\times$", "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT DOUBLE QUOTATION MARK}": "``", "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
        "\n": " ",
    }
)  # fmt: skip
MARKS = {
    "better": r"$\blacktriangle$",
    "worse": r"$\blacktriangledown$",
    "equivalent": r"$\approx$",
    "not decided": r"$\circ$",
}
"""The mark of each outcome, as on the page; the triangles need the package amssymb."""


def escape(text: str) -> str:
    """A text whose characters have no meaning in LaTeX; two hyphens make no dash."""
    return text.replace("--", "-\0-").translate(_ESCAPES).replace("\0", "{}")


def comment(text: str) -> str:
    """A text as a line that LaTeX skips."""
    return f"% {' '.join(text.split())}\n"
