"""What dropout does, measured: design.md says how, each size of model has a folder with its plan.

`laboratory.first` is the laboratory of the RESULTS.md that stands there now; it goes when the page
of the new one stands.
"""

import stages  # noqa: F401 - which sees to it that the code beside this folder is found first
