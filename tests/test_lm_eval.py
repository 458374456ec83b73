"""EleutherAI's lm-eval measures the same bits per byte; its extra is installed for this alone."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from conftest import ROOT, params_with
from dropgpt.arguments import parser
from dropgpt.commands import measure
from dropgpt.comparison import result_file
from dropgpt.corpus.document import Document
from dropgpt.evaluation import document_losses
from dropgpt.model import artifact
from dropgpt.model.gpt import GPT
from dropgpt.perplexity import summary
from dropgpt.tokens import tensor
from dropgpt.tokens.encoding import encode_documents
from dropgpt.tokens.vocabulary import END_OF_TEXT, N_VOCAB, gpt2_encoding

N_CTX = 64
# The one difference: a <|endoftext|> that stands in a text is text to us, and one token to them.
README = (ROOT / "README.md").read_text().replace(END_OF_TEXT, "")
TEXTS = ["One.", *README.split("\n## "), "天地 🙂 " * 50]


@pytest.fixture(params=["ours", "first-1024", "theirs"])
def folder(request: pytest.FixtureRequest, make_gpt: Callable[..., GPT], tmp_path: Path) -> Path:
    """A model of either maker, with weights far from the initial ones, in pretrained/."""
    ours = make_gpt(n_ctx=N_CTX, n_vocab=1025 if request.param == "first-1024" else N_VOCAB)
    with torch.no_grad():
        for p in ours.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    folder = tmp_path / "pretrained" / request.param
    artifact.save(ours, folder)
    if request.param == "theirs":
        tokenizer = AutoTokenizer.from_pretrained(folder)
        shutil.rmtree(folder)
        torch.manual_seed(1)
        theirs = GPT2LMHeadModel(
            GPT2Config(
                n_layer=2,
                n_head=2,
                n_embd=32,
                n_positions=N_CTX,
                initializer_range=0.2,
                tie_word_embeddings=False,
            )
        )
        theirs.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_lm_evals_rolling_log_likelihood_is_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its windows do not overlap and begin with <|endoftext|>: our plan at a stride of n_ctx."""
    pytest.importorskip("lm_eval", reason="`pip install '.[lm-eval]'` brings it")
    from lm_eval.api.instance import Instance
    from lm_eval.api.metrics import bits_per_byte
    from lm_eval.models.huggingface import HFLM

    # Its cache takes a short last window for a whole one where a text repeats itself, as one does.
    exact = {"device": "cpu", "dtype": "float32", "logits_cache": False}
    peer = HFLM(pretrained=str(folder), batch_size=4, **exact)
    requests = [
        Instance("loglikelihood_rolling", doc={}, arguments=(text,), idx=0) for text in TEXTS
    ]
    sums = peer.loglikelihood_rolling(requests)
    theirs = bits_per_byte(
        [(nats, len(text.encode())) for nats, text in zip(sums, TEXTS, strict=True)]
    )

    monkeypatch.chdir(folder.parent.parent)
    documents = [Document(text, f"{n}", f"{n}") for n, text in enumerate(TEXTS)]
    params = params_with(model={"n_ctx": N_CTX}, evaluate={"stride": N_CTX}).evaluate
    model = artifact.load(artifact.chosen(f"pretrained/{folder.name}", "evaluate.model"))
    encoded = encode_documents(documents, gpt2_encoding(model.n_vocab), end_of_text=False)
    ids, table = tensor.in_memory(encoded)
    found = summary(document_losses(model, ids, table, params))
    ours = found["bits_per_byte"]
    assert ours == found["bits_per_byte_of_text"]
    print(f"bits per byte: ours {ours:.9f}, lm-eval's {theirs:.9f}, {len(ids)} tokens")
    assert ours == pytest.approx(theirs, rel=0, abs=1e-6)
    assert by_the_command(folder) == pytest.approx(theirs, rel=0, abs=1e-6)


def by_the_command(folder: Path) -> float:
    """Bits per byte as `dropgpt measure` finds them, of a model in pretrained/."""
    Path("texts.json").write_text(json.dumps(TEXTS))
    command = ["measure", str(folder), "texts.json", "--stride", str(N_CTX), "--no-end-of-text"]
    values = vars(parser().parse_args([*command, "--output", "o.json"]))
    values.pop("command")
    measure.run(**values)
    documents = result_file.read("o.json").documents
    return float(documents.nats.sum() / math.log(2) / documents.bytes.sum())
