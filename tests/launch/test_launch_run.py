"""`aloe launch --run`: when it calls a launcher, and with what."""

from pathlib import Path

import pytest

from helpers.aloe_in_process import refused


@pytest.fixture
def sky(tmp_path_factory, monkeypatch):
    """A program `sky` that adds its arguments to the returned file and ends with the code in $CODE."""
    folder = tmp_path_factory.mktemp("bin")
    program, called = folder / "sky", folder / "called"
    program.write_text(f'#!/bin/sh\necho "$@" >> {called}\nexit ${{CODE:-0}}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return called


def test_needs_the_tool(launch, monkeypatch):
    monkeypatch.setenv("PATH", "")
    refused(launch("--on=skypilot", "--run", "--yes"), "'sky' is not installed", "skypilot[gcp]")
    jobset = ("--on=jobset", "--config.launch.image=i", "--config.launch.queue=q")
    refused(launch(*jobset, "--run", "--yes"), "'kubectl' is not installed")
    assert not list(Path.cwd().iterdir())


def test_needs_yes(launch, sky):
    refused(launch("--on=skypilot", "--run", "--config.launch.price=2"), "32.00 USD per hour", "add --yes")
    refused(launch("--on=skypilot", "--run"), "a price that is not known", "add --yes")
    assert not sky.exists()
    assert not list(Path.cwd().iterdir())


def test_costs_nothing_without_run(launch, sky):
    assert launch("--on=skypilot", "--yes")[0] == 0
    assert not sky.exists()


def test_starts(launch, sky):
    assert launch("--on=skypilot", "--run", "--yes")[0] == 0
    assert sky.read_text() == "jobs launch --name=a --yes a.yaml\n"


def test_starts_every_shard(launch, sky):
    servers = ("--servers=2", "--config.serve.model=m", "--topology=L4:1")
    assert launch("--on=skypilot", *servers, "--run", "--yes")[0] == 0
    assert sky.read_text().splitlines() == [
        "jobs launch --name=a-0 --env=SHARD=0 --detach-run --yes a.yaml",
        "jobs launch --name=a-1 --env=SHARD=1 --detach-run --yes a.yaml",
    ]


def test_the_failure_of_the_tool_is_ours(launch, sky, monkeypatch):
    monkeypatch.setenv("CODE", "3")
    code, _, errors = launch("--on=skypilot", "--run", "--yes")
    assert code == 1
    assert "ended with exit code 3" in errors
