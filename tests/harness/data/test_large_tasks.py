"""The memory of a middle-sized task, in a process of its own: rows and tokens are never held whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.big_task import write_task, write_tiny_encoder
from harness.models.checkpoints import tokenizer_of

ROWS = 60_000
MOST_MEBIBYTES = 160
"""Above the process without data. A process that holds all rows and tokens takes 500."""
SCRIPT = """
import sys
from pathlib import Path

from harness.config import ProtocolConfig, SourceConfig
from harness.data.sources import load_task_data
from harness.data.tasks import load_task
from harness.data.tokens import encoded_split
from harness.models.checkpoints import tokenizer_of


def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


folder = Path(sys.argv[1])
tokenizer = tokenizer_of(folder / "encoder")
tokenizer(["a text"], ["another"])
before = peak()
source = SourceConfig(kind="folder", folder=str(folder / "data"))
data = load_task_data(load_task("mnli"), source, ProtocolConfig())
hashes = [split.sha256 for split in data.splits.values()]
tokens = encoded_split(folder / "tokens", data.train, tokenizer, 128)
words = tokens.vocabulary()
print(len(data.train), len(tokens.ids), peak() - before)
"""


@pytest.mark.slow
def test_memory_of_a_middle_sized_task_is_bounded(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process is in /proc on Linux only")
    write_tiny_encoder(tmp_path / "encoder")
    write_task(tmp_path / "data", ROWS, tokenizer_of(tmp_path / "encoder").get_vocab())
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows, tokens, growth = map(float, answer.split())
    assert (rows, tokens > 30 * rows) == (ROWS - 2000, True)
    assert growth < MOST_MEBIBYTES
