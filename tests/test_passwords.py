"""Passwords of storage URLs are in no message, manifest or command."""

import json
import shlex
from pathlib import Path

import pytest

from harness.compose import compose_config
from harness.config import json_values
from harness.errors import MOST_CHARACTERS, UserError, one_line, without_passwords
from harness.experiment import manifest
from harness.storage.database import masked_url
from harness.study import main
from reports import build

STUDY = ["--preset", "demo", "--method", "alp", "--task", "rte"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://u:sesame@h/d", "postgresql://u:***@h/d"),
        ("postgresql://h/d?user=u&password=sesame", "postgresql://h/d?password=***&user=u"),
        ("postgresql://h/d?password=sesame%26x", "postgresql://h/d?password=***"),
        ("postgresql://h/d?sslpassword=sesame", "postgresql://h/d?sslpassword=***"),
        ("postgresql://u:sesame@h:port/d", "***"),
        ("postgresql://u:open@sesame@h/d", "***"),
        ("sesame", "***"),
        ("sqlite:////a/b@c.db", "sqlite:////a/b%40c.db"),
    ],
)
def test_a_url_is_shown_without_its_passwords(given: str, shown: str) -> None:
    assert masked_url(given) == shown
    words = ["--json", f"storage='{given}'"]
    command = f"python -m harness.study --json {shlex.quote(f'storage={shown}')}"
    assert manifest.command_line(words) == command
    config = compose_config(["methods=[kd]", "tasks=[rte]", f"storage='{given}'"])
    assert "sesame" not in json.dumps(json_values(manifest.shown_config(config)))


@pytest.mark.parametrize(
    "storage",
    [
        "storage=postgresql://u:ses&ame@h/d",
        "storage=postgresql://u:{sesame@h/d",
        "storage='postgresql://u:sesame@h:port/d'",
        "storage='postgresql://u:sesame@[h/d'",
        "storage='postgresql+nodriver://u:sesame@h/d'",
        "storage='nodialect://u:sesame@h/d?password=sesame'",
        "storage=['postgresql://u:sesame@h/d']",
        "storages='postgresql://u:sesame@h/d'",
        "postgresql://u:sesame@h/d",
        "--storage=postgresql://u:sesame@h/d",
        "storage='postgresql+psycopg://u:sesame@127.0.0.1:1/d?password=sesame&connect_timeout=2'",
        "storage='postgresql+psycopg://u:sesame@127.0.0.1:99999999/d'",
        "storage='postgresql+psycopg://u:sesame@127.0.0.1/d?sesamepassword=sesame'",
    ],
)
def test_no_message_shows_a_password(
    storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main([*STUDY, "--out", str(tmp_path), storage])
    except SystemExit as end:
        code = int(end.code or 0)
    said = capsys.readouterr()
    assert code == 2
    assert "=sesame" not in said.err
    assert "ame@" not in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    if storage.startswith("storage='"):
        assert build.main([str(tmp_path), "--storage", storage[9:-1]]) == 2
        assert "sesame@" not in capsys.readouterr().err


def test_a_long_message_is_cut_in_its_middle() -> None:
    assert one_line(UserError("a\n b")) == "a b"
    half = MOST_CHARACTERS // 2
    text = one_line(UserError("x" * 500_000 + "y" * 500_000))
    assert text == f"{'x' * half}... (1000000 characters) ...{'y' * half}"


def test_other_texts_stay() -> None:
    for text in ("--out a@b:c", "https://hub.co/a@main", "the password is wrong", "key = value"):
        assert without_passwords(text) == text
