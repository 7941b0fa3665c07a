"""The answer to `--list`: the cards of methods, ablations, tasks and presets."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from harness.compose import ablation_methods, names, read_yaml
from harness.data.tasks import load_task, task_names
from harness.method import Method
from harness.registry.cards import card
from harness.registry.discovery import registry
from harness.runtime.progress import say


def show_list(kind: str, as_json: bool) -> None:
    """Print the names of one kind, as lines or as JSON."""
    cards: list[dict[str, Any]]
    if kind == "methods":
        cards = [_card_values(method) for method in registry().methods.values()]
    elif kind == "ablations":
        cards = [
            {
                "name": name,
                "summary": read_yaml("ablation", name)["title"],
                "methods": ablation_methods(name),
            }
            for name in names("ablation")
        ]
    elif kind == "tasks":
        cards = [{"name": name, "summary": load_task(name).title} for name in task_names()]
    else:
        cards = [{"name": name, "summary": _preset_line(name)} for name in names("preset")]
    for name, reason in registry().import_errors.items() if kind == "methods" else ():
        say(f"{name}: cannot be imported ({reason})")
    if as_json:
        print(json.dumps(cards))
        return
    for entry in cards:
        aliases = f" ({', '.join(entry['aliases'])})" if entry.get("aliases") else ""
        print(f"{entry['name'] + aliases:<20} {entry['summary']}")
        if kind == "ablations":
            print(f"{'':<20}   {', '.join(entry['methods'])}")
        if kind == "methods":
            print(f"{'':<20} {entry['paper']} ({entry['form']})")
            if entry["needs"]:
                print(f"{'':<20} runs the teacher in every step: reads {', '.join(entry['needs'])}")
            for name, distribution in entry["hyper-parameters"].items():
                print(f"{'':<20}   {name}: {distribution}")


def _card_values(method: type[Method]) -> dict[str, Any]:
    values = asdict(card(method))
    return {**values, "hyper-parameters": values.pop("hyper_parameters")}


def _preset_line(name: str) -> str:
    lines = {
        "demo": "built-in procedural tasks and a small encoder; minutes on a laptop, no network",
        "minilm": "GLUE with all-MiniLM-L6-v2, 6 to 3 layers, mean pooling; hours on a CPU",
        "paper": "GLUE with bert-base-uncased, 12 to 4 layers; for a GPU",
    }
    return lines.get(name, "")
