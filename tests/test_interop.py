"""Other programs that read models/gpt write what ours writes; the extra `interop` has them.

llama.cpp's converter is in no package: LLAMA_CPP names a checkout of it, and where it is not set
that test skips itself.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.export import Dim
from transformers import GPT2LMHeadModel

from conftest import params_with
from dropgpt.generation import generate
from dropgpt.model import artifact
from dropgpt.model.gpt import GPT
from dropgpt.tokens.vocabulary import N_VOCAB, encode_prompt, entries, gpt2_encoding

PROMPTS = ["I went on holiday to Liliput and", "The history of the", "In 1726, 天地 the"]
ENCODING = gpt2_encoding()

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(make_gpt: Callable[..., GPT], tmp_path: Path) -> Path:
    """A model with weights far from the initial ones, so that it writes more than one word."""
    model = make_gpt(n_ctx=96, n_embd=64)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    artifact.save(model, tmp_path / "gpt")
    return tmp_path / "gpt"


def greedy(folder: Path, prompt: str, tokens: int) -> list[int]:
    """What ours writes."""
    params = params_with(sample={"tokens": tokens}).sample
    written = generate(artifact.load(folder), encode_prompt(ENCODING, prompt), 0.0, params)
    assert len({*written}) > 5
    return written


def test_ctranslate2_writes_the_same(folder: Path, tmp_path: Path) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2", reason="`pip install '.[interop]'` brings it")
    ctranslate2.converters.TransformersConverter(str(folder)).convert(str(tmp_path / "converted"))
    peer = ctranslate2.Generator(str(tmp_path / "converted"), compute_type="float32")
    names = [*entries()]
    for prompt in PROMPTS:
        ids = encode_prompt(ENCODING, prompt)
        (found,) = peer.generate_batch(
            [[names[i] for i in ids]],
            max_length=20,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        assert found.sequences_ids[0] == greedy(folder, prompt, 20)


def test_onnx_computes_the_same(folder: Path, tmp_path: Path) -> None:
    """Of the model as transformers opens it, as optimum does; which is not for transformers 5."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="`pip install '.[interop]'` brings it")
    model = GPT2LMHeadModel.from_pretrained(folder, use_cache=False).eval()
    torch.onnx.export(
        model,
        (torch.ones(2, 8, dtype=torch.int64),),
        tmp_path / "gpt.onnx",
        input_names=["input_ids"],
        output_names=["logits"],
        dynamic_shapes=({0: Dim.DYNAMIC, 1: Dim.DYNAMIC},),
    )
    peer = onnxruntime.InferenceSession(tmp_path / "gpt.onnx", providers=["CPUExecutionProvider"])
    ours = artifact.load(folder)
    for shape in [(1, 2), (3, 96)]:
        tokens = torch.randint(N_VOCAB, shape, generator=torch.Generator().manual_seed(1))
        (found,) = peer.run(["logits"], {"input_ids": tokens.numpy()})
        with torch.no_grad():
            assert np.allclose(found, ours(tokens), rtol=0, atol=1e-5)


def test_llama_cpp_converts_it_and_writes_the_same(folder: Path, tmp_path: Path) -> None:
    if "LLAMA_CPP" not in os.environ:
        pytest.skip("LLAMA_CPP names no checkout of llama.cpp")
    converter = Path(os.environ["LLAMA_CPP"]) / "convert_hf_to_gguf.py"
    file = tmp_path / "gpt.gguf"
    command = [sys.executable, converter, folder, "--outfile", file, "--outtype", "f32"]
    subprocess.run(command, check=True)
    xllamacpp = pytest.importorskip("xllamacpp", reason="`pip install '.[interop]'` brings it")
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_ctx = 96
    params.n_parallel = 1
    peer = xllamacpp.Server(params)
    for prompt in PROMPTS:
        found = peer.handle_completions({"prompt": prompt, "n_predict": 50, "temperature": 0.0})
        expected = ENCODING.decode(greedy(folder, prompt, 50))
        assert found["choices"][0]["text"] == expected
