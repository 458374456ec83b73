"""The plots as a user sees them: by the real DVC, without a network, in a browser."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from clone import Clone

TITLES = [
    "Learning rate",
    "Norm of the gradient, before clipping",
    "How often the token of each rank occurs",
    "Loss in training, dropout on",
    "Held-out loss",
]


def shown(clone: Clone) -> str:
    """The page that `dvc plots show` makes."""
    clone.dvc("plots", "show", "--out", "dvc_plots")
    return (clone.folder / "dvc_plots/index.html").read_text(encoding="utf-8")


def test_each_plot_is_drawn_once_also_where_no_page_was_made(clone: Clone) -> None:
    page = shown(clone)
    assert re.findall(r'"title": {"text": "(.*?)"', page) == TITLES
    assert page.count("vegaEmbed(") == len(TITLES)


def test_the_page_needs_no_network(reproduced: Clone, tmp_path: Path) -> None:
    clone = reproduced.copy(tmp_path / "clone")
    clone.run(sys.executable, "-m", "dropgpt.plots_page")
    assert clone.git("status", "--porcelain").stdout == ""
    page = shown(clone)
    assert "window.vegaEmbed=" in page
    vega = page.split("<script>")[1].split("</script>")[0]
    tags = re.findall(r"<(?:script|link|img)\b[^>]*>", page.replace(vega, ""))
    assert not [tag for tag in tags if "src" in tag or "href" in tag]
    if not (browser := shutil.which("chromium")):
        pytest.skip("there is no chromium to open it in")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=9000"]
    command += [f"--user-data-dir={clone.folder}/dvc_plots/browser", "--dump-dom"]
    drawn = clone.run(*command, (clone.folder / "dvc_plots/index.html").as_uri()).stdout
    assert len(re.findall(r"<svg[^>]*\bmarks\b", drawn)) == len(TITLES)


def test_in_another_folder_no_project_is_made(clone: Clone) -> None:
    """Nor one of DVC's, which takes any folder .dvc for its own."""
    done = clone.at(clone.folder / "docs").run(sys.executable, "-m", "dropgpt.plots_page", ok=False)
    assert done.stderr == "error: .dvc/config is not here: run it in the root of the project\n"
    assert not (clone.folder / "docs/.dvc").exists()
