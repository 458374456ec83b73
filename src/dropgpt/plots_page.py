"""The page of `dvc plots show` and `dvc plots diff`, for use without a network.

DVC's own loads Vega from the network. This one has it inside, as the package vl-convert-python
carries it: 0.9 MB, so it is made where it is needed, by `python -m dropgpt.plots_page`.
"""

import subprocess
import sys
from pathlib import Path

import vl_convert

from dropgpt.machine.files import replacing

PAGE = Path(".dvc/plots.html")
BEFORE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{refresh_tag}
<title>Plots</title>
<style>
body { display: flex; flex-wrap: wrap; gap: 2em; margin: 2em; font: 0.8rem sans-serif; }
</style>
<script>
"""
AFTER = """
</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def main() -> None:
    if not Path(".dvc/config").is_file():
        sys.exit("error: .dvc/config is not here: run it in the root of the project")
    with replacing(PAGE) as partial:
        vega = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
        partial.write_text(BEFORE + vega + AFTER, encoding="utf-8")
    # Not in .dvc/config, which is in git: where the page is missing, DVC would draw nothing.
    setting = ["config", "--local", "plots.html_template", PAGE.name]
    sys.exit(subprocess.run([sys.executable, "-m", "dvc", *setting]).returncode)


if __name__ == "__main__":
    main()
