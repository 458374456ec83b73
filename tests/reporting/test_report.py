"""`dropgpt report`, as a user runs it, on what the real DVC has made."""

import errno
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

from clone import Clone
from dropgpt.comparison import experiments
from dropgpt.machine.files import seal
from dropgpt.machine.kept import DIGEST
from dropgpt.machine.repository import Revision
from dropgpt.params import load
from dropgpt.reporting import results
from dropgpt.tokens import tensor

SECTIONS = ["Result", "Parameters", "Training", "Corpus", "Where the loss is", "Documents"]
SECTIONS += ["Generations", "What made it"]
FIGURES = ["Loss by step", "Learning rate", "Gradient norm", "Tokens by rank"]
FIGURES += ["Documents by length", "Loss by position in the context"]
FIGURES += ["Loss by frequency of the token", "Dropout on and off", "Calibration"]
HOSTILE = '</td><script>alert("x")</script> & the cat sat'
WITHOUT_TORCH = """
import sys
from dropgpt.__main__ import main
main()
assert "torch" not in sys.modules
"""
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


class Page(HTMLParser):
    """The tags of a page with their attributes, and the texts of its headings."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[tuple[str, str]] = []
        self.source = file.read_text()
        self.text = html.unescape(re.sub(r"<[^>]+>", " ", self.source))
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and re.fullmatch("h[1-6]", tag := self.tags[-1][0]) and data.strip():
            self.headings.append((tag, data))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def report(clone: Clone, *revisions: str, file: str = "reports/index.html") -> Page:
    assert file in clone.dropgpt("report", *revisions, "--output", file)
    return Page(clone.folder / file)


def test_the_page_of_the_workspace(clone: Clone) -> None:
    corpus = clone.folder / "corpora/2.txt"
    corpus.write_text(f"{HOSTILE}<|endoftext|>{corpus.read_text()}")
    clone.set(
        sample={"prompts": [HOSTILE], "temperatures": [0.0, 1.0]},
        train={"steps": 3, "tokens": 1000},
    )
    clone.dvc("repro")
    before = clone.bytes()
    measured = clone.folder / "checkpoints/measured"
    shutil.rmtree(measured, ignore_errors=True)
    assert "reports/index.html" in clone.dropgpt("report")
    kept = {file: file.stat().st_ino for file in measured.iterdir()}
    page = Page(clone.folder / "reports/index.html")
    (each_token,) = kept
    table = pd.read_parquet(BytesIO(each_token.read_bytes()[DIGEST:]))
    trained_on = tensor.read(clone.folder / "data/tokens").train[:1000]
    assert {*table.seen} <= {0, *np.bincount(trained_on)}

    # Every part is there.
    assert [text for tag, text in page.headings if tag == "h2"] == SECTIONS
    assert [text for tag, text in page.headings if text in FIGURES] == [
        *FIGURES[:7], "Dropout on and off", "Calibration"
    ]  # fmt: skip
    assert len(page.of("svg")) == len(FIGURES)
    assert all(len(svg["aria-label"] or "") > 20 for svg in page.of("svg"))
    assert all(th.get("scope") for th in page.of("th"))
    assert page.of("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.headings]
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))

    # The numbers are those of metrics/ and of what was counted.
    assert f"{clone.summary()['trigram_loss']:.3f}" in page.text
    found = clone.metrics("evaluate")
    for name in ("bits_per_byte", "loss", "loss_dropout_on"):
        assert f"{found[name]:.3f}" in page.text
    assert f"{found['perplexity']:,.0f}" in page.text
    assert "train.steps" in page.source.partition("All parameters")[0]  # differs from the default
    assert "train.batch_size" not in page.source.partition("All parameters")[0]

    # Texts are texts.
    assert page.text.count(HOSTILE) >= 2  # as a document and as a prompt
    assert len(page.of("script")) == 1
    assert "alert" not in page.source.rpartition("<script>")[2]

    # One file that asks for nothing else.
    linked = [
        v or "" for _, a in page.tags for k, v in a.items() if k in ("src", "href", "xlink:href")
    ]
    assert all(link.startswith(("#", "data:")) for link in linked)
    assert not re.search(r"@import|url\((?!#)", page.source)
    assert "default-src 'none'" in page.source

    # It is a function of what it is about, which it leaves as it is and measures once. Torch is
    # for that alone.
    command = ["report", "workspace", "--output", "again.html"]
    clone.run(sys.executable, "-c", WITHOUT_TORCH, *command)
    assert (clone.folder / "again.html").read_text() == page.source
    assert {file: file.stat().st_ino for file in measured.iterdir()} == kept != {}
    assert clone.bytes() == before
    assert "reports" not in clone.git("status", "--porcelain").stdout


def test_a_page_before_the_first_commit(clone: Clone, tmp_path: Path) -> None:
    new = clone.copy(tmp_path / "new")
    shutil.rmtree(new.folder / ".git")
    new.git("init", "--quiet")
    assert report(new, "workspace").headings
    new.git("commit", "--quiet", "--allow-empty", "--message", "without params.yaml")
    assert report(new, "workspace").headings


@pytest.mark.slow
def test_several_revisions_lie_over_each_other_with_their_comparison(clone: Clone) -> None:
    """One has the name of a column, as any experiment may."""
    clone.dvc("exp", "run", "-n", "place", "-S", "model.dropout=0.5", "evaluate")
    clone.git("checkout", "--quiet", "--force", "HEAD")
    clone.dvc("checkout", "--force")
    page = report(clone, "HEAD", "place")
    assert ("h3", "Comparison") in page.headings
    assert ("h3", "Difference to HEAD") in page.headings
    assert "cannot tell: one seed" in page.source.partition("Difference to HEAD")[2]
    compared = clone.dropgpt("compare", "HEAD", "place", "--md").splitlines()
    for cell in (cell.strip() for row in compared[2:4] for cell in row.split("|")):
        assert cell in page.text
    first, *_ = page.source.partition("All parameters")
    assert "model.dropout" in first
    drawings = re.findall("<svg.*?</svg>", page.source, re.DOTALL)
    of_both = [d for d in drawings if "var(--run-0)" in d and "var(--run-1)" in d]
    assert len(of_both) == len(FIGURES) - 1  # each seed as well, and the corpus is the same
    # Seeds of one thing are judged together.
    clone.dvc("exp", "run", "-n", "HEAD-2", "-S", "train.seed=2", "evaluate")
    clone.dvc("exp", "run", "-n", "place-2", "-S", "model.dropout=0.5", "evaluate")
    clone.git("checkout", "--quiet", "--force", "HEAD")
    clone.dvc("checkout", "--force")
    seeds = ["HEAD", "place", "HEAD-2", "place-2"]
    judged = report(clone, *seeds)
    _, _, row = clone.dropgpt("compare", *seeds, "--by", "model.dropout", "--md").splitlines()[1:4]
    label, *_, difference, interval, verdict = (cell.strip() for cell in row.strip("|").split("|"))
    drawing = judged.text.partition("Difference to 0.1")[2].partition("Documents:")[0]
    assert label == "0.5"
    assert f"{difference}, {verdict}" in drawing
    assert interval in judged.text
    # What does not compare is shown all the same, and why.
    clone.set(evaluate={"stride": 8})
    clone.dvc("repro", "evaluate")
    apart = report(clone, "HEAD", "workspace", "place")
    assert "evaluate.stride 16" in apart.text
    # Nor does it stand in the table of documents, beside losses that it cannot be held against.
    table = apart.source.partition("Loss of each document")[2].partition("</table>")[0]
    heads = [" ".join(re.sub("<[^>]+>", " ", one).split()) for one in table.split("</th>")]
    assert [one for one in heads if one in ("HEAD", "workspace", "place")] == ["HEAD", "place"]


def test_what_is_not_of_the_model_that_was_measured_is_left_out(clone: Clone) -> None:
    clone.set(train={"seed": 5})
    clone.dvc("repro", "train")
    page = report(clone)
    assert "the stage evaluate has not run since" in page.text
    assert "models/gpt is not at hand, or is not what was measured" in page.text
    assert "Loss by step" not in [text for _, text in page.headings]
    assert "Tokens by rank" in [text for _, text in page.headings]
    clone.dvc("repro", "--force", "--single-item", "sample")
    assert "samples is not at hand, or of another model" in report(clone).text
    # Not those that are in params.yaml now.
    assert "All that the result knows are the default's" in page.text


def test_curves_of_another_commit_are_left_out(clone: Clone) -> None:
    """`git checkout` brings its metrics, `dvc checkout` what belongs to them."""
    clone.git("checkout", "--quiet", "-b", "other")
    clone.set(model={"dropout": 0.5})
    clone.dvc("repro", "evaluate")
    clone.commit()
    clone.git("checkout", "--quiet", "main")
    page = report(clone)
    assert "Loss by step" not in [text for _, text in page.headings]
    assert "models/gpt is not of the training in metrics/training.csv" in page.text
    assert "model.dropout 0.1, the result was made with 0.5, and is not the one in" in page.text
    assert "--force" not in page.text
    clone.dvc("checkout", "--force")
    assert "Loss by step" in [text for _, text in report(clone).headings]
    # Made by hand, without DVC, all of it is of one training again.
    clone.set(model={"dropout": 0.5})
    clone.run(sys.executable, "-m", "stages.train")
    clone.run(sys.executable, "-m", "stages.evaluate")
    assert "Loss by step" in [text for _, text in report(clone).headings]
    clone.git("branch", "-D", "other")


def test_curves_that_were_not_committed_are_left_out(clone: Clone) -> None:
    clone.git("checkout", "--quiet", "-b", "other")
    clone.set(model={"dropout": 0.5})
    clone.dvc("repro")
    clone.git("add", "params.yaml", "dvc.lock")
    clone.git("commit", "--quiet", "--message", "without metrics")
    clone.git("stash", "--quiet")
    page = report(clone, "other")
    assert "Loss by step" not in [text for _, text in page.headings]
    assert "metrics/training.csv, as where metrics/ was not committed" in page.text
    assert "Loss by step" in [text for _, text in report(clone, "main").headings]
    clone.git("stash", "drop", "--quiet")
    clone.git("checkout", "--quiet", "main")
    clone.git("branch", "-D", "other")
    clone.dvc("checkout", "--force")


def test_what_other_code_has_measured_is_told(clone: Clone) -> None:
    """Single tokens and `dropgpt measure` are of the code that lies here."""
    told = "by the code that lies here, and other code has measured the loss"
    note = "note: models/gpt was made by other code than lies here"
    assert told not in report(clone).text
    assert note not in clone.dropgpt("measure", "models/gpt")
    with (clone.folder / "src/dropgpt/model/gpt.py").open("a") as module:
        module.write("# other code\n")
    assert told in report(clone).text
    assert note in clone.dropgpt("measure", "models/gpt")


def test_a_result_of_older_code(clone: Clone) -> None:
    """One of its parameters has gone since, another has come."""
    folder = clone.folder / "data/evaluation"
    chain = clone.json("data/evaluation/provenance.json")
    before = chain["evaluate"]["params"]["evaluate"]
    del before["dropout_passes"]
    before["bootstrap_resamples"] = 1000
    (folder / "provenance.json").unlink()  # it may be a link into DVC's cache
    (folder / "SHA256SUMS").unlink()
    (folder / "provenance.json").write_text(json.dumps(chain))
    seal(folder)
    assert "evaluate.bootstrap_resamples" in report(clone).text


def test_what_is_damaged_or_lacking_in_the_cache_is_left_out(clone: Clone) -> None:
    for name, file in (("data/tokens", "tokens.npy"), ("models/gpt", "config.json")):
        md5 = hashlib.md5((clone.folder / name / file).read_bytes()).hexdigest()
        entry = clone.folder / f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}"
        content = entry.read_bytes()
        shutil.rmtree(clone.folder / name)  # which may link to it
        try:
            entry.chmod(0o644)
            entry.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            assert f"HEAD: {name} is damaged in DVC's cache: docs/" in report(clone, "HEAD").text
            entry.unlink()
            text = report(clone, "HEAD").text
            assert f"HEAD: {name} is not at hand" in text
            assert "damaged" not in text
        finally:
            entry.unlink(missing_ok=True)
            entry.write_bytes(content)


def test_a_full_temporary_folder_is_not_what_lacks(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone.folder)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(Revision, "copy", Mock(side_effect=full))
    with pytest.raises(OSError, match="No space left on device"):
        results.read(experiments.read("HEAD"), load(Path("params.yaml")).runtime)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["HEAD", "HEAD"], "report: HEAD is named twice"),
        (["--output", "params.yaml/x.html"], "report: params.yaml/x.html cannot be written"),
        pytest.param(["no-such"], "report: no-such: ", marks=pytest.mark.slow),
        pytest.param(["--output", "docs"], "--output docs is a folder", marks=pytest.mark.slow),
    ],
)
def test_a_mistake_is_told_in_a_line(clone: Clone, arguments: list[str], why: str) -> None:
    assert why in clone.dropgpt("report", *arguments, ok=False)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="takes Chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_sorts_its_tables_and_has_nothing_to_complain_of(
    clone: Clone, tmp_path: Path, scheme: str
) -> None:
    page = report(clone)
    looking = """<script>
    const head = document.querySelectorAll("table.sortable th")[1];
    head.firstElementChild.click();
    const rows = [...head.closest("table").tBodies[0].rows];
    const column = rows.map((row) => row.cells[1].textContent);
    document.title = JSON.stringify({
      sorted: column.map(Number).every((n, i, all) => !i || all[i - 1] <= n),
      wide: document.documentElement.scrollWidth > window.innerWidth,
      paper: getComputedStyle(document.body).backgroundColor,
      text: getComputedStyle(document.querySelector("svg text")).fill,
    });
    </script></body>"""
    file = tmp_path / "page.html"
    file.write_text(page.source.replace("</body>", looking))
    command = [str(BROWSER), "--headless", "--no-sandbox", "--enable-logging=stderr", "--dump-dom"]
    command += ["--window-size=390,800", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"]
    done = subprocess.run([*command, file.as_uri()], capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    found = html.unescape(re.search(r"<title>(.*?)</title>", done.stdout)[1])  # type: ignore[index]
    paper, text = ("rgb(21, 23, 26)", "rgb(228, 230, 233)")
    if scheme == "light":
        paper, text = ("rgb(253, 253, 252)", "rgb(28, 30, 33)")
    assert f'"sorted":true,"wide":false,"paper":"{paper}","text":"{text}"' in found
