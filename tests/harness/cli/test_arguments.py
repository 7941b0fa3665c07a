"""From a command line to a configuration, and the registry of methods that it names."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from harness.cli import arguments, choices
from harness.cli.arguments import Request, parser, read_request
from harness.compose import ablation_methods, names
from harness.data.tasks import task_names
from harness.errors import ConfigError, MethodError, UserError
from harness.method import Method
from harness.registry import discovery as registry_module
from harness.registry.discovery import chosen_methods, register, registry


def asked(*words: str) -> Request:
    return read_request(parser().parse_args(["--preset", "demo", "--task", "rte", *words]))


def refused(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        asked(*words)
    return str(caught.value)


def test_a_plan_repairs_nothing() -> None:
    assert asked("--method", "alp", "--repair").repairs
    assert not asked("--method", "alp").repairs
    assert refused("--method", "alp", "--repair", "--dry-run").startswith("--repair changes")


@pytest.mark.parametrize("words", [["--method", "alp"], ["--task", "rte"], []])
def test_method_and_task_are_needed(words: list[str]) -> None:
    with pytest.raises(UserError, match="--method and --task are needed"):
        read_request(parser().parse_args(words))


@pytest.mark.parametrize(
    ("words", "methods", "baseline"),
    [
        (["--method", "alp"], ("alp", "kd"), "kd"),
        (["--method", "alp,pkd"], ("alp", "pkd-skip", "kd"), "kd"),
        (["--method", "pkd,pkd-skip"], ("pkd-skip", "kd"), "kd"),
        (["--method", "kd"], ("kd", "finetune"), "finetune"),
        (["--method", "kd,alp"], ("kd", "alp"), "kd"),
        (["--method", "alp", "--baseline", "none"], ("alp",), None),
        (["--method", "alp", "--baseline", "pkd"], ("alp", "pkd-skip"), "pkd-skip"),
        (["--method", "alp,uniform", "--baseline", "alp"], ("alp", "uniform"), "alp"),
        (["--method", "finetune"], ("finetune", "kd"), "kd"),
    ],
)
def test_the_baseline_joins_the_methods(
    words: list[str], methods: tuple[str, ...], baseline: str | None
) -> None:
    config = asked(*words).config
    assert (config.methods, config.baseline) == (methods, baseline)
    assert [method.name for method in chosen_methods(config)] == list(methods)


@pytest.mark.parametrize(
    ("words", "kind", "workers", "address"),
    [
        ([], "local", 0, None),
        (["--workers", "auto"], "machine", 0, None),
        (["--workers", "3"], "machine", 3, None),
        (["--cluster", "slurm"], "slurm", 1, None),
        (["--cluster", "slurm", "--workers", "8"], "slurm", 8, None),
        (["cluster=pbs", "--workers", "2"], "pbs", 2, None),
        (["--cluster", "tcp://host:8786"], "dask", 0, "tcp://host:8786"),
    ],
)
def test_workers_and_clusters(
    words: list[str], kind: str, workers: int, address: str | None
) -> None:
    cluster = asked("--method", "alp", *words).config.cluster
    assert (cluster.kind, cluster.workers, cluster.address) == (kind, workers, address)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "0"], "--workers 0: must be auto or at least 1"),
        (["--workers", "many"], "--workers many: must be auto or a whole number"),
        (
            ["--cluster", "nomad"],
            "--cluster nomad: neither an address like tcp://HOST:8786 nor lsf, ",
        ),
        (
            ["--workers", "4", "--cluster", "local"],
            "cluster.workers is not read with cluster.kind=",
        ),
        (
            ["--workers", "4", "--cluster", "tcp://h:1"],
            "workers is not read with cluster.kind=dask",
        ),
        (["--cluster", "slurm", "--workers", "auto"], "cluster.kind=slurm needs cluster.workers"),
        (["--cluster", "slurm", "cluster=pbs"], "--cluster slurm and cluster= are given"),
        (["--workers", "2", "cluster.options.cores=1"], "cluster.options is not read"),
        (["cluster.kind=dask"], "cluster.kind=dask needs cluster.address"),
    ],
)
def test_workers_that_nothing_would_read_are_refused(words: list[str], message: str) -> None:
    assert message in refused("--method", "alp", *words)


def test_all_methods_are_all_of_the_registry() -> None:
    assert asked("--method", "all").config.methods == tuple(registry().methods)


def test_a_method_is_not_its_own_baseline() -> None:
    assert "cannot be compared with itself" in refused("--method", "alp", "--baseline", "alp")
    assert "cannot be compared with itself" in refused("--method", "pkd", "--baseline", "pkd-skip")


def test_all_tasks_leave_wnli_out_and_say_so() -> None:
    made = asked("--method", "alp", "--task", "all")
    assert made.config.tasks == tuple(name for name in task_names() if name != "wnli")
    assert any("wnli" in note for note in made.notes)
    assert asked("--method", "alp", "--task", "wnli").config.tasks == ("wnli",)
    repeated = asked("--method", "alp", "--task", "rte,cola,rte").config
    assert repeated.tasks == ("rte", "cola")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--method", "apl"], "--method apl: no such method; did you mean alp"),
        (["--method", "pkd_skip"], "did you mean pkd-skip"),
        (["--method", "alp,unifrom"], "did you mean uniform"),
        (["--method", "qqqqqq"], "choose from all-to-last, all-to-one-matching, "),
        (["--method", ""], "no such method"),
        (["--method", "alp", "--task", "mprc"], "--task mprc: no such task; did you mean mrpc"),
        (["--method", "alp", "--task", "rte,zzzzzz"], "choose from cola, "),
        (["--method", "alp", "--baseline", "finetun"], "did you mean finetune"),
        (["--method", "alp", "--preset", "papr"], "--preset papr: choose from auto, demo"),
        (["--method", "alp", "--protocol", "dirty"], "--protocol dirty: choose from clean, paper"),
        (["--method", "alp", "--keep", "all"], "--keep all: choose from best, report, none"),
        (["--method", "alp", "--sampler", "grid"], "--sampler grid: choose from random, tpe"),
        (["--method", "alp", "epochs"], "'epochs' is neither a flag nor KEY=VALUE"),
    ],
)
def test_wrong_names_are_answered_with_near_ones(words: list[str], expected: str) -> None:
    assert expected in refused(*words)


def test_demo_makes_its_own_data() -> None:
    assert "leave --data out" in refused("--method", "alp", "--data", "glue")


@pytest.mark.parametrize(
    "flag",
    ["--trials", "--seeds", "--student-layers", "--repeat-search", "--max-seeds", "--max-trials"],
)
@pytest.mark.parametrize(
    "number", ["0", "-1", "x", "2.5", "", "1,2", "[3]", "1e3", "null", "${out}", "9" * 5000]
)
def test_a_number_that_is_none_is_an_error_that_names_the_flag(flag: str, number: str) -> None:
    if (flag, number) == ("--student-layers", "1,2"):
        number = "1,x"  # several depths are an axis
    auto = [flag.replace("max-", ""), "auto"] if flag.startswith("--max") else []
    unit = "settings" if "seeds" in flag else "methods"
    message = refused("--method", "alp", *auto, f"{flag}={number}", f"protocol.unit={unit}")
    assert message.startswith(flag)
    assert message.count("--") == 1
    assert "\n" not in message


def test_a_message_names_the_key_where_an_override_replaced_the_flag() -> None:
    flags = ["--method", "alp", "--trials", "3", "--keep", "none"]
    assert refused(*flags, "search.trials=0").startswith("search.trials: ")
    assert refused(*flags, "keep=all").startswith("keep: ")


SETTINGS = ("--method", "alp", "protocol.unit=settings")


def test_seeds_may_be_added_until_they_decide() -> None:
    fixed = asked(*SETTINGS, "--seeds", "7").config.protocol
    assert (fixed.stopping, fixed.seeds) == ("fixed", 7)
    auto = asked(*SETTINGS, "--seeds", "auto").config.protocol
    assert (auto.stopping, auto.seeds) == ("sequential", arguments.MOST_SEEDS)
    most = asked(*SETTINGS, "--seeds", "auto", "--max-seeds", "9").config.protocol
    assert (most.stopping, most.seeds) == ("sequential", 9)
    assert "--max-seeds goes with --seeds auto" in refused(*SETTINGS, "--max-seeds", "9")
    with pytest.raises(ConfigError, match="needs a baseline"):
        asked(*SETTINGS, "--seeds", "auto", "--baseline", "none")
    assert "--max-seeds x: must be a whole number" in refused(
        *SETTINGS, "--seeds", "auto", "--max-seeds", "x"
    )
    assert "--seeds x: must be auto or a whole number" in refused(*SETTINGS, "--seeds", "x")


AUTO = ("--method", "alp", "--trials", "auto")


def test_trials_may_be_added_until_they_decide() -> None:
    auto = asked(*AUTO).config
    assert (auto.protocol.stopping, auto.search.trials) == ("sequential", arguments.MOST_TRIALS)
    most = asked(*AUTO, "--max-trials", "35").config
    assert (most.protocol.stopping, most.search.trials) == ("sequential", 35)
    assert "--max-trials goes with --trials auto" in refused(*AUTO[:-2], "--max-trials", "9")
    assert "--trials x: must be auto or a whole number" in refused(*AUTO[:-1], "x")
    with pytest.raises(ConfigError, match=r"\(--trials auto\) needs a baseline"):
        asked(*AUTO, "--baseline", "none")
    with pytest.raises(ConfigError, match="a fixed number of trials, not --trials auto"):
        asked(*AUTO, "--repeat-search", "6")


def test_runs_of_the_other_design_are_not_added() -> None:
    assert refused(*AUTO, "protocol.unit=settings") == (
        "--trials auto needs protocol.unit=methods; two settings have --seeds auto"
    )
    assert "--seeds auto needs protocol.unit=settings: each trial" in refused(
        *AUTO[:-2], "--seeds", "auto"
    )
    assert refused(*AUTO[:-2], "--seeds", "10").endswith("(--trials N, or --trials auto)")


def test_a_budget_above_half_of_the_first_look_is_refused() -> None:
    asked(*AUTO, "protocol.budget=10")
    message = refused(*AUTO, "protocol.budget=11")
    assert (
        message == "protocol.budget=11 is above half of the first look at 20 trials (--trials auto)"
    )
    few = refused(*AUTO, "--max-trials", "12", "protocol.budget=7")
    assert "search.trials=12 is too few: a budget of 7 needs at least 14 trials" in few
    asked(*AUTO[:-1], "24", "protocol.budget=12")


def test_the_whole_may_be_repeated() -> None:
    assert asked("--method", "alp").config.protocol.repeats == 1
    assert asked("--method", "alp", "--repeat-search", "6").config.protocol.repeats == 6
    with pytest.raises(ConfigError, match="wants a fixed number of seeds"):
        asked(*SETTINGS, "--repeat-search", "6", "--seeds", "auto")


def test_flags_become_values_and_explicit_overrides_win() -> None:
    words = ["--trials", "3", "--seeds", "4", "--student-layers", "2", "--keep", "none"]
    words += ["--protocol", "paper", "--allow-weak-teacher", "--out", "results"]
    config = asked("--method", "alp", *words, "search.trials=7").config
    assert (config.search.trials, config.protocol.seeds, config.student.layers) == (7, 4, 2)
    assert (config.keep, config.protocol.name, config.out) == ("none", "paper", "results")
    assert config.teacher.allow_weak
    assert asked(*SETTINGS, "--sampler", "tpe").config.search.sampler == "tpe"
    made = asked("--method", "alp", "--dry-run", "--json", "--open")
    assert (made.dry_run, made.json, made.opens_report) == (True, True, True)
    assert not asked("--method", "alp").config.teacher.allow_weak


NAMES = [
    "plain",
    "with space",
    "it's",
    'say "so"',
    "a=b",
    "a,b",
    "[x]",
    "{x: 1}",
    "null",
    "true",
    "12",
    "1e3",
    "back\\slash",
    "ends\\",
    "quote\\'d",
    "two\\\\",
    "${out}",
    "$HOME",
    "\\${out}",
    "${a",
    "\\\\'${out}'\\",
    "a:b",
    "# no comment",
    "übung",
    "~home",
    "{task}/teacher",
    "(a)",
    "a+b%c&d;e|f",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files_are_taken_as_they_are(name: str) -> None:
    words = ["--preset", "paper", "--method", "alp", "--data", f"/d/{name}", "--out", name]
    config = asked(*words, "--teacher", f"./{name}").config
    assert (config.source.kind, config.source.folder) == ("folder", f"/d/{name}")
    assert config.out == name
    assert config.teacher.checkpoint == name


@pytest.mark.parametrize("name", NAMES)
def test_a_task_file_lies_in_any_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    described = {
        "title": "Jobs",
        "labels": ["no", "yes"],
        "metrics": ["accuracy"],
        "evaluation": {"test": "test.tsv"},
        "folder": {"columns": ["text"], "label": "label"},
    }
    (folder / "jobs.yaml").write_text(yaml.safe_dump(described))
    words = ["--preset", "paper", "--method", "alp", "--task", f"{folder}/jobs.yaml"]
    if "," in name:
        assert "no such" in refused(*words)  # a comma separates tasks
        return
    config = asked(*words).config
    assert config.task_files == {"jobs": str(folder / "jobs.yaml")}
    assert config.source.folder == str(folder)


def test_an_override_may_refer_to_a_flag() -> None:
    words = ["--method", "alp", "--out", "${a} b", "storage='sqlite:///${out}/l.db'"]
    assert asked(*words).config.storage == "sqlite:///${a} b/l.db"


@pytest.mark.parametrize(
    ("cuda", "minilm", "words", "preset"),
    [
        (False, False, [], "demo"),
        (False, True, [], "demo"),
        (False, True, ["--data", "d"], "minilm"),
        (True, True, ["--data", "d"], "paper"),
        (True, False, [], "paper"),
    ],
)
def test_the_automatic_preset_fits_the_machine_and_says_why(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, minilm: bool, words: list[str], preset: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr(choices, "minilm_installed", lambda: minilm)
    monkeypatch.setattr(choices, "_hub_answers", lambda: True)
    made = asked("--preset", "auto", "--method", "alp", *words)
    assert made.config.preset == preset
    assert any(note.startswith(f"preset {preset}:") for note in made.notes)


def test_data_that_no_preset_can_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(choices, "minilm_installed", lambda: False)
    assert "name --preset paper" in refused("--preset", "auto", "--method", "alp", "--data", "d")


Candidates = list[tuple[str, Callable[[], ModuleType | type]]]
Scan = Callable[[Candidates], None]


@pytest.fixture
def scan(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scan]:
    """Let the registry find these candidates, and forget them afterwards."""

    def use(candidates: Candidates) -> None:
        monkeypatch.setattr(registry_module, "_candidates", lambda: iter(candidates))
        registry.cache_clear()

    yield use
    registry.cache_clear()


def named(name: str, *aliases: str) -> type[Method]:
    kind = type(Method)
    made = kind("Made", (registry_baseline(),), {"name": name, "aliases": aliases})
    assert isinstance(made, type)
    return made


def registry_baseline() -> type[Method]:
    found: type[Method] = import_module("methods.baselines").Kd
    return found


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        (("one",), ("one",), "one"),
        (("one", "other"), ("other",), "other"),
        (("one",), ("two", "one"), "one"),
        (("one", "both"), ("two", "both"), "both"),
    ],
)
def test_two_methods_of_one_name_raise(
    scan: Scan, first: tuple[str, ...], second: tuple[str, ...], taken: str
) -> None:
    methods: dict[str, type[Method]] = {}
    register(methods, named(*first))
    with pytest.raises(MethodError, match=f"two methods are named '{taken}'"):
        register(methods, named(*second))
    scan([("a", lambda: named(*first)), ("b", lambda: named(*second))])
    with pytest.raises(MethodError, match=f"two methods are named '{taken}'"):
        registry()


def test_aliases_are_not_inherited() -> None:
    methods: dict[str, type[Method]] = {}
    first = named("one", "first")
    child = type("Child", (first,), {"name": "child"})
    register(methods, first)
    register(methods, child)
    assert set(methods) == {"one", "child"}


def test_registering_the_same_class_twice_is_no_fault() -> None:
    methods: dict[str, type[Method]] = {}
    method = named("one", "first")
    register(methods, method)
    register(methods, method)
    assert methods == {"one": method}


def test_a_broken_plug_in_is_named_and_stops_nothing(scan: Scan) -> None:
    def broken() -> ModuleType:
        raise ImportError("no module named 'rare'")

    scan([("plugin.broken", broken), ("plugin.works", lambda: named("works", "w"))])
    found = registry()
    assert found.import_errors == {"plugin.broken": "ImportError: no module named 'rare'"}
    assert set(found.methods) == {"works"}
    assert found.resolve("w") is found.methods["works"]


def test_a_plug_in_that_ends_the_process_is_named_too(scan: Scan) -> None:
    def ending() -> ModuleType:
        sys.exit(0)

    scan([("plugin.ends", ending), ("plugin.works", lambda: named("works", "w"))])
    assert registry().import_errors == {"plugin.ends": "SystemExit: 0"}
    assert set(registry().methods) == {"works"}


def test_a_module_gives_its_own_concrete_methods_only(scan: Scan) -> None:
    module = import_module("methods.alp")
    scan([("methods.alp", lambda: module)])
    assert set(registry().methods) == {"alp", "alp-no", "alp-np", "alp-po"}


def test_names_are_sorted_and_aliases_resolve() -> None:
    assert list(registry().methods) == sorted(registry().methods)
    assert registry().resolve("pkd").name == "pkd-skip"
    known = """finetune kd pkd-skip pkd-last ckd-no ckd-po alp alp-np alp-no alp-po uniform emd rail
    random-projection random-mix static-mix reverse random-map all-to-last universal tinybert minilm"""
    assert set(known.split()) <= set(registry().methods)


@pytest.mark.parametrize("taken", ["all", "paper", "layer-maps"])
def test_a_method_cannot_have_the_name_of_a_set(taken: str) -> None:
    with pytest.raises(MethodError, match=f"'{taken}' is the name of a set of methods"):
        register({}, named("own", taken))


def test_sets_are_found_among_methods_and_near_names() -> None:
    assert asked("--method", "kd,all").config.methods[0] == "kd"
    assert set(asked("--method", "kd,all").config.methods) == set(registry().methods)
    assert "did you mean controls" in refused("--method", "contols")


@pytest.mark.parametrize("ablation", names("ablation"))
def test_a_named_ablation_stands_for_its_methods(ablation: str) -> None:
    own = asked("--method", ablation).config.methods
    assert set(own) == {registry().resolve(name).name for name in ablation_methods(ablation)}
    both = asked("--method", f"rail,{ablation},kd").config.methods
    assert both[0] == "rail"
    assert set(both) == {*own, "rail", "kd"}


def test_a_request_is_read_before_the_imports_of_what_trains() -> None:
    """Workers start after the request is read, and import beside the command."""
    code = (
        "import sys\n"
        "import harness.cli.entrance\n"
        "from harness.cli.arguments import parser, read_request\n"
        "read_request(parser().parse_intermixed_args(['--method', 'alp', '--task', 'rte']))\n"
        "print({'transformers', 'datasets', 'sklearn', 'scipy', 'plotly'} & {*sys.modules})\n"
    )
    root = Path(arguments.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
