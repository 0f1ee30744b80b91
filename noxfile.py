"""Tasks of a developer, each in an environment of its own: ``nox -l`` lists them."""

import nox

nox.needs_version = ">=2024.10"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True

PINS = ("-c", "constraints.txt")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests and the examples in docstrings; arguments after ``--`` go to pytest."""
    session.install(*PINS, "-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests and measure which lines and branches they reach."""
    session.install(*PINS, "-e", ".[test]", "pytest-cov")
    reports = ("--cov-report=term-missing:skip-covered", "--cov-report=html")
    session.run("pytest", "--cov", *reports, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting and spelling."""
    session.install(*PINS, "ruff", "codespell")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types."""
    session.install(*PINS, "-e", ".[dev]")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build, with warnings as errors."""
    session.install(*PINS, "-e", ".[docs]")
    session.run("sphinx-build", "-W", "--keep-going", "docs", "docs/_build")


@nox.session
def bench(session: nox.Session) -> None:
    """Run the main benchmark; arguments after ``--`` go to ``skgenad benchmark``."""
    session.install(*PINS, ".[bench]")
    session.run("skgenad", "benchmark", *session.posargs)


@nox.session
def oldest(session: nox.Session) -> None:
    """Run the short suite with the oldest releases that pyproject.toml promises."""
    session.install(
        "-c", "constraints-oldest.txt", "-e", ".[flows,images]", "pytest", "pytest-xdist"
    )
    session.run("pytest", "@tests/short_suite.txt", *session.posargs)
