from pathlib import Path

import pytest
from dvc.utils.serialize import load_yaml

from conftest import ROOT
from dropgpt.errors import UserError
from dropgpt.params import load

TEXT = (ROOT / "params.yaml").read_text()


def written(folder: Path, old: str, new: str) -> Path:
    assert TEXT.count(old) == 1
    path = folder / "params.yaml"
    path.write_text(TEXT.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  dropout: 0.1", "  dropout: 1.0", "model.dropout is 1.0: input should be less than 1"),
        ("  dropout: 0.1", "  dropout: -0.1", "model.dropout is -0.1: input should be greater"),
        ("  dropout: 0.1", "  dropout: abc", "model.dropout is 'abc': input should be a valid num"),
        ("  dropout: 0.1", "  dropout: null", "model.dropout is None: input should be a valid num"),
        ("  dropout: 0.1", "  dropout: .nan", "model.dropout is nan: input should be a finite"),
        ("  dropout: 0.1", "  dropuot: 0.1", "model.dropuot: unknown key; did you mean model.drop"),
        ("  dropout: 0.1", "", "model.dropout: this key is missing"),
        ("mlp: null", "mlq: null", "did you mean model.dropout_sites.mlp"),
        ("mlp: null", "mlp: 1.5", "model.dropout_sites.mlp is 1.5"),
        ("n_head: 4", "n_head: 5", "n_embd 128 is not divisible by n_head 5"),
        ("n_head: 4", "n_head: 4.5", "model.n_head is 4.5"),
        ("n_head: 4", "n_head: 0", "model.n_head is 0: input should be greater than 0"),
        (
            "sampling: epoch",
            "sampling: epohc",
            "train.sampling is 'epohc': input should be 'epoch'",
        ),
        ("scale_logits: true", "scale_logits: no", "model.scale_logits is 'no'"),
        ("stride: 128", "stride: 257", "evaluate.stride 257 is above model.n_ctx 256"),
        ("temperatures: [0.0,", "temperatures: [-1.0,", "sample.temperatures.0 is -1.0"),
        ("device: auto", "device: gpu", "runtime.device is 'gpu'"),
        ("tokenize:", "tokenise:", "tokenise: unknown key; did you mean tokenize?"),
        ("tokenize:", "tokenize: [", "not YAML"),
        ("- The history of the", "- ''", "sample.prompts.1 is ''"),
    ],
)
def test_a_mistake_is_one_line_with_file_key_value_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = written(tmp_path, old, new)
    with pytest.raises(UserError) as error:
        load(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 0.001), ("5e-05", 5e-05), ("3e-4", 0.0003), ("0.1", 0.1), ("1", 1.0)],
)
def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path, text: str, value: float) -> None:
    path = written(tmp_path, "learning_rate: 3e-3", f"learning_rate: {text}")
    path.write_text(path.read_text().replace("steps: 300", "steps: 1_000"))
    params = load(path)
    assert params.train.learning_rate == value
    assert params.train.steps == 1000
    assert params.model_dump() == load_yaml(str(path))


def test_no_is_a_word(tmp_path: Path) -> None:
    path = written(tmp_path, "config: CC-MAIN-2013-20", "config: no")
    assert load(path).data.config == "no"


def test_no_file_and_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; run from the project's root"):
        load(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("- a\n")
    with pytest.raises(UserError, match="valid dictionary"):
        load(tmp_path / "params.yaml")
