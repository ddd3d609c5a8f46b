"""Published checkpoints by id: what is one, what is fetched, and what is said without package or network."""

import os
from pathlib import Path

import pytest

from smelt.core import download as module
from smelt.core.download import download, is_id
from smelt.core.errors import CheckpointError, ResourceError
from smelt.core.storage import checkpoint_at


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Hub:
    """Stand for the package: keep the question, answer with a folder or an error."""

    def __init__(self, answer: Path | Exception) -> None:
        self.answer, self.asked = answer, []

    def snapshot_download(self, name: str, **settings: object) -> str:
        self.asked.append((name, settings))
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    made = Hub(tmp_path / "snapshot")
    monkeypatch.setattr(module, "available", lambda name: True)
    monkeypatch.setattr(module, "need", lambda name, extra: made)
    return made


def test_what_is_an_id(tmp_path: Path) -> None:
    for text in ("org/name", "Org-1/na.me_2", "org/name@main", "org/name@refs/pr/1", "o/n"):
        assert is_id(text), text
    for text in ("name", "./org/name", "/org/name", "../name", "org/name/more", "org/", "org//n", "org/name@", "o r/n"):
        assert not is_id(text), text
    assert not is_id("runs/mistyped")
    (tmp_path / "models").mkdir()
    assert not is_id("models/mistyped")


def test_an_id_is_fetched_without_code_and_pickles(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert checkpoint_at("org/name@v1.0") == tmp_path / "snapshot"
    ((name, settings),) = hub.asked
    assert (name, settings["revision"]) == ("org/name", "v1.0")
    assert not [pattern for pattern in settings["allow_patterns"] if "bin" in pattern or "py" in pattern]
    assert "*.safetensors" in settings["allow_patterns"] and "*/*" in settings["ignore_patterns"]
    assert "org/name@v1.0" in capsys.readouterr().err
    assert download("org/name") and hub.asked[1][1]["revision"] is None


def test_a_path_is_never_looked_up(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="org/name: holds no checkpoint"):
        checkpoint_at("org/name")
    for path in ("org/nome", "runs/books", tmp_path / "no", "books"):
        with pytest.raises(CheckpointError, match="no such directory\naccepted: a checkpoint directory"):
            checkpoint_at(path)
    assert not hub.asked


def test_a_failure_says_why_and_what_to_do(hub: Hub) -> None:
    hub.answer = ConnectionError("no route to host\nmore")
    with pytest.raises(CheckpointError) as caught:
        checkpoint_at("org/name@v1")
    assert str(caught.value).split("\n") == [
        "org/name@v1: no such directory, and downloading it failed (ConnectionError: no route to host)",
        "accepted: a local directory, or the id of a repository that can be reached",
        "try: where there is a network: hf download org/name --revision v1 --local-dir FOLDER, and give FOLDER here",
    ]


def test_without_the_package_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available", lambda name: False)
    with pytest.raises(ResourceError) as caught:
        checkpoint_at("org/name")
    what, accepted, fix = str(caught.value).split("\n")
    assert what == "org/name: no such directory, and to download it the package huggingface_hub is missing"
    assert accepted == "accepted: a local directory, which needs no package"
    assert fix.startswith(
        "try: pip install 'smelt-lm[hub]'; or, where there is a network: hf download org/name --local"
    )


def test_the_package_itself_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"downloading it failed \(\w+: .*\n.*\ntry: where there is a network"):
        checkpoint_at(f"no-such-org-{os.getpid()}/name")
