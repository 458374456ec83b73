"""What DVC's cache shares and keeps, by the commands of docs/recovery.md."""

from pathlib import Path

from clone import Clone
from conftest import ROOT
from test_docs import commands

OF_CACHE = [
    " ".join(words[1:])
    for words in commands(ROOT / "docs/recovery.md")
    if words[:3] == ["dvc", "cache", "dir"] or words[:2] == ["dvc", "gc"]
]


def test_a_worktree_takes_the_results_from_the_cache_of_the_first(
    reproduced: Clone, tmp_path: Path
) -> None:
    first = reproduced.copy(tmp_path / "first")
    first.git("worktree", "add", "--quiet", str(tmp_path / "second"), "HEAD")
    second = first.at(tmp_path / "second")
    assert "`dvc gc` has removed its results, or they are" in second.dropgpt(
        "compare", "HEAD", "workspace", ok=False
    )
    (command,) = (one for one in OF_CACHE if one.startswith("cache"))
    second.dvc(*command.replace("/PATH/TO/THE/FIRST", str(first.folder)).split())
    second.dvc("checkout")
    assert second.bytes() == first.bytes()
    assert "+0.0000" in second.dropgpt("compare", "HEAD", "workspace")


def test_what_a_commit_or_an_experiment_needs_is_kept(reproduced: Clone, tmp_path: Path) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    # Other tests have left branches and tags there, some with a params.yaml that is none.
    clone.git("checkout", "--quiet", "--detach")
    refs = clone.git("for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags").stdout
    for ref in refs.split():
        clone.git("update-ref", "-d", ref)
    clone.dvc("exp", "run", "--name", "seed", "-S", "train.seed=5", "evaluate")
    clone.git("checkout", "--quiet", "--force", "HEAD")
    clone.dvc("checkout", "--force")
    (command,) = (one for one in OF_CACHE if one.startswith("gc"))
    assert "[y/n]" in clone.dvc(*command.split(), ok=False)  # it asks first, and nobody answers
    clone.dvc(*command.split(), "--force")
    assert "train.seed" in clone.dropgpt("compare", "HEAD", "seed")
    clone.dvc("gc", "--workspace", "--force")
    said = clone.dropgpt("compare", "HEAD", "seed", ok=False)
    assert "seed has no data/evaluation in DVC's cache" in said
