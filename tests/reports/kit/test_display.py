import math

import numpy as np
import pandas as pd
import pytest

from reports.kit import display
from reports.kit.display import DASH, JointColumn, number


def test_a_cell_keeps_the_value_that_it_prints():
    frame = pd.DataFrame({"name": ["a"], "low": [-1.23456789], "high": [math.inf], "n": [3]})
    shown = display.table(
        "t",
        frame,
        {
            "name": ("name", None),
            "low": ("interval", JointColumn(("high",), ("low", "high"), display.interval_text)),
            "n": ("runs", number(0)),
        },
    )
    assert [cell.text for cell in shown.rows[0]] == ["a", "−1.23 to unbounded", "3"]
    assert [cell.data for cell in shown.rows[0]] == [("a",), ("-1.23457", "Infinity"), ("3",)]


def test_csv_quotes_what_it_must_and_leaves_out_what_is_missing():
    frame = pd.DataFrame(
        {
            "a_text": ['a,"b"', "c\nd"],
            "score": [math.nan, 1000000.0],
            "low": [-1.23456789, math.inf],
            "seeds": [3, 4],
            "best": [True, False],
        }
    )
    assert display.Numbers(frame).csv == (
        'a text,score,low,seeds,best\n"a,""b""",,-1.23457,3,True\n"c\nd",1000000,Infinity,4,False\n'
    )
    assert display.Numbers(frame[:0]).csv == "a text,score,low,seeds,best\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-0.0, "0"), (-1e-320, "-1e-320"), (0.000123456789, "0.000123457"), (123456.5, "123456"),
        (1234567.8, "1234570"), (1.5e16, "1.5e+16"), (np.float32(0.1), "0.1"), (-math.inf, "-Infinity"),
        (2.0, "2"), (-2.50, "-2.5"), (1e-5, "1e-05"),
    ],
)  # fmt: skip
def test_a_number_is_written_to_six_digits_as_python_reads_it(value: float, text: str) -> None:
    assert display.number_cell(value, str).data == (text,)


def test_signed_numbers_and_p_values_have_a_dash_where_there_is_none():
    assert [display.signed_text(value) for value in (1.234, -1.0, -0.001, math.nan)] == [
        "+1.23", f"{display.MINUS_SIGN}1.00", "+0.00", DASH,
    ]  # fmt: skip
    assert [display.p_text(value) for value in (0.01234, math.nan)] == ["0.0123", DASH]


def test_numbers_are_printed_without_a_negative_zero():
    assert display.number(2)(-0.001) == "0.00"
    assert display.number(1)(-1.25) == f"{display.MINUS_SIGN}1.2"
    assert display.number(1)(math.nan) == display.DASH
