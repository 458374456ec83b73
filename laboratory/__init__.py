"""What dropout does in a small GPT: a DVC pipeline of its own, from plan.yaml to RESULTS.md."""

import stages  # noqa: F401 - which sees to it that the code beside this folder is found first
