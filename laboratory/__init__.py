"""What dropout does, measured: design.md says how; each size of model has a folder and a plan."""

import stages  # noqa: F401 - which sees to it that the code beside this folder is found first
