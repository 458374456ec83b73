"""What a clone of the repository gets from a remote of DVC's, without any credentials."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clone import Clone, stages_run

FILES = {"config.json", "model.safetensors", "provenance.json"}  # among others


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow)])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Where a remote may lie: in a folder, or in an S3 that this machine plays to itself."""
    if request.param == "folder":
        yield str(tmp_path / "storage")
        return
    pytest.importorskip("dvc_s3", reason="`pip install '.[s3]'` brings it")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{address}:{port}")
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "test")
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="bucket")
    yield "s3://bucket/path"
    server.stop()


@pytest.fixture
def pushed(reproduced: Clone, storage: str, tmp_path: Path) -> Clone:
    """A project whose results are in a remote, and in no cache beside it."""
    origin = reproduced.copy(tmp_path / "origin")
    origin.dvc("remote", "add", "--default", "storage", storage)
    origin.dvc("push")
    origin.commit()
    shutil.rmtree(origin.folder / ".dvc/cache")
    return origin


def test_a_clone_pulls_and_has_nothing_to_do(pushed: Clone, tmp_path: Path) -> None:
    there = pushed.cloned(tmp_path / "clone")
    there.dvc("pull")
    assert "in sync" in there.dvc("status", "--cloud")
    assert stages_run(there.dvc("repro")) == []
    assert there.git("status", "--porcelain").stdout == ""
    assert there.bytes() == pushed.bytes()


def test_the_model_comes_by_its_path_and_by_its_name(
    pushed: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.org")
    gto = str(Path(sys.executable).with_name("gto"))  # comes with DVC
    pushed.run(gto, "register", "gpt", "--version", "v1.0.0")
    source = str(pushed.folder)
    (tmp_path / "elsewhere").mkdir()
    there = pushed.at(tmp_path / "elsewhere")
    there.git("init", "--quiet")
    there.dvc("init", "--quiet")
    there.dvc("get", source, "models/gpt", "--out", "got")
    there.dvc("import", source, "models/gpt", "--out", "imported")
    pushed.git("rm", "--quiet", "dvc.lock")
    pushed.commit()  # which changes nothing of what was tagged
    there.dvc("artifacts", "get", source, "gpt", "--out", "artifact")
    model = pushed.folder / "models/gpt"
    expected = {file.name: file.read_bytes() for file in model.iterdir()}
    assert expected.keys() >= FILES
    for name in ("got", "imported", "artifact"):
        folder = there.folder / name
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == expected
