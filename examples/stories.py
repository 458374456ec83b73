"""A model for stories: ten minutes of a laptop by its speed on other text, not measured yet.

TinyStories (Eldan and Li 2023) are stories in the words of a small child, so that a small model can
learn to tell some. `python examples/stories.py` in the project's root, or cell by cell in VS Code,
or in Jupyter with jupytext. The stories come from the Hugging Face hub.
"""

# %%
from dropgpt.params import DropoutSites
from dropgpt.terminal import run, set_aside

STORIES = 30_000
STEPS = 3_000  # of 8 windows of 256 tokens

# %% [markdown]
# ## The text
# The first of the two million stories. Their commit is pinned, so that whoever runs this reads the
# same ones: it is what the data set has been since August 2024.

# %%
TEXT = [
    "data.source=hub",
    "data.dataset=roneneldan/TinyStories",
    "data.revision=f54c09fd23315a6f9c86f9dc80f725de7d8f9c64",
    "data.config=null",
    "data.split=train",
    "data.held_out_split=null",
    "data.text_column=text",
    f"data.documents={STORIES}",
    "data.files=corpora/*.txt",  # it is not read
]

# %% [markdown]
# ## The model
# A context of 256 tokens holds most stories whole. Their words are few: with the first 4,096
# entries of GPT-2's vocabulary a step takes a quarter of the time that it takes with all 50,257.
# No story is read twice, so nothing is dropped: README.md says why.
#
# An experiment leaves its parameters in params.yaml, so what an earlier one may have set otherwise
# is said here, too.

# %%
MODEL = [
    "tokenize.vocabulary_size=4096",
    "tokenize.validation_fraction=0.01",
    "model.n_ctx=256",
    "model.dropout=0",
    *(f"model.dropout_sites.{site}=null" for site in DropoutSites.model_fields),
    "train.tokens=null",
    "train.batch_size=8",
    f"train.steps={STEPS}",
    f"train.validation_interval={STEPS // 10}",
    "evaluate.model=null",
    "evaluate.stride=128",
    "sample.model=null",
    "sample.tokens=250",
    """'sample.prompts=["Once upon a time", "One day", "<|endoftext|>"]'""",
]

# %%
set_aside("stories")
settings = " ".join(f"-S {setting}" for setting in TEXT + MODEL)
run(f"dvc exp run --name stories {settings}")

# %% [markdown]
# ## Did it learn more than counting does?
# A model with fewer bits per byte than the trigram, which only counts, has.

# %%
run("dvc metrics show")

# %% [markdown]
# ## A story
# Another seed tells another one; without it, each call does.

# %%
run("dropgpt write 'Once upon a time' --seed 1 --tokens 250")
