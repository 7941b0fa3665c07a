from packaging.utils import canonicalize_name

from tests.requirements import declared, listed, missing_with


def test_every_direct_dependency_is_pinned() -> None:
    pins = {canonicalize_name(one.name): one for one in listed("constraints.txt")}
    for dependency in declared():
        pin = pins[canonicalize_name(dependency.name)]
        (exact,) = pin.specifier
        assert exact.operator == "=="
        assert dependency.specifier.contains(exact.version), f"{dependency} but {pin}"


def test_what_reports_need_are_direct_dependencies() -> None:
    direct = {canonicalize_name(one.name) for one in declared()}
    assert {canonicalize_name(one.name) for one in listed("requirements-report.txt")} <= direct


def test_reports_are_tested_without_what_they_may_not_need() -> None:
    missing = missing_with("requirements-report.txt")
    assert {"torch", "transformers", "optuna", "sklearn", "hydra", "datasets"} <= set(missing)
    assert not {"pandas", "plotly", "numpy", "dateutil", "harness", "reports"} & set(missing)
