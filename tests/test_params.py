import re
from pathlib import Path

import pytest
from dvc.utils.flatten import flatten
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import load_yaml

from conftest import ROOT
from dropgpt.errors import UserError
from dropgpt.params import load

TEXT = (ROOT / "params.yaml").read_text()


def written(folder: Path, key: str, line: str) -> Path:
    """params.yaml with another line in place of the one that sets `key`."""
    text, count = re.subn(rf"^( *){key}:.*$", rf"\g<1>{line}", TEXT, flags=re.MULTILINE)
    assert count == 1
    path = folder / "params.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("key", "line", "said"),
    [
        ("dropout", "dropout: 1.0", "model.dropout is 1.0: input should be less than 1"),
        ("dropout", "dropout: -0.1", "model.dropout is -0.1: input should be greater"),
        ("dropout", "dropout: abc", "model.dropout is 'abc': input should be a valid number"),
        ("dropout", "dropout: null", "model.dropout is None: input should be a valid number"),
        ("dropout", "dropout: .nan", "model.dropout is nan: input should be a finite"),
        ("dropout", "dropuot: 0.1", "model.dropuot: unknown key; did you mean model.dropout?"),
        ("dropout", "", "model.dropout: this key is missing"),
        ("mlp", "mlq: null", "did you mean model.dropout_sites.mlp?"),
        ("mlp", "mlp: 1.5", "model.dropout_sites.mlp is 1.5"),
        ("n_head", "n_head: 5", "is not divisible by n_head 5"),
        ("n_head", "n_head: 4.5", "model.n_head is 4.5"),
        ("n_head", "n_head: 0", "model.n_head is 0: input should be greater than 0"),
        ("sampling", "sampling: epohc", "train.sampling is 'epohc': input should be 'epoch'"),
        ("scale_logits", "scale_logits: no", "model.scale_logits is 'no'"),
        (
            "compile",
            "compile: yes",
            "train.compile is 'yes': input should be 'auto', true",
        ),
        ("stride", "stride: 9999", "evaluate.stride 9999 is above model.n_ctx"),
        ("temperatures", "temperatures:\n  - -1.0", "sample.temperatures.0 is -1.0"),
        ("prompts", "prompts: ['']\n  unread:", "sample.prompts.0 is ''"),
        (
            "device",
            "device: gpu",
            "runtime.device is 'gpu': input should be auto, cpu, mps, cuda, or",
        ),
        ("device", "device: 0", "runtime.device is 0: input should be auto, cpu, mps, cuda, or"),
        (
            "files",
            "files: [corpora/a.txt, corpora/b.txt]",
            "data.files is ['corpora/a.txt', 'corpora/b.txt']: input should be a valid string",
        ),
        ("device", "device: cuda:01", "runtime.device is 'cuda:01'"),
        ("device", "device: cuda:\u0663", "runtime.device is 'cuda:\u0663'"),
        ("device", "device: cuda:128", "runtime.device is 'cuda:128'"),
        ("revision", "revision: 2024-13-45", "not YAML: month must be in 1..12"),
        ("vocabulary_size", f"vocabulary_size: {'1' * 5000}", "not YAML: Exceeds the limit"),
        ("prompts", f"prompts: {'[' * 500}", "not YAML: maximum recursion depth"),
        ("tokenize", "tokenise:", "tokenise: unknown key; did you mean tokenize?"),
        ("tokenize", "tokenize: [", "not YAML"),
        (
            "steps",
            "steps: 1e3",
            "train.steps is 1000.0: input should be a valid integer, written 1000",
        ),
        ("learning_rate", "learning_rate: 1e39", "input should be less than or equal to 1000"),
        ("warmup_steps", f"warmup_steps: {'1' * 400}", "train.warmup_steps is 111"),
        ("threads", "threads: 1000000000", "runtime.threads is 1000000000: input should be less"),
        ("n_layer", "n_layer: 4097", "input should be less than or equal to 4096"),
        ("steps", "steps: 1.5", "train.steps is 1.5: input should be a valid integer"),
        ("steps", "learning_rat: 1", "did you mean train.learning_rate?"),
        (
            "n_layer",
            "learning_rate: 1",
            "learning_rate: unknown key; did you mean train.learning_rate?",
        ),
        ("data", "extra:", "extra: unknown key; remove it"),
        (
            "dropout_sites",
            "dropout_sites:\n  unread:",
            "model.dropout_sites is None: it should be a section with the keys embedding,",
        ),
        (
            "prompts",
            "prompts: [1984]\n  unread:",
            "prompts.0 is 1984: input should be a valid string; ",
        ),
        (
            "prompts",
            "prompts:\n  - Once: upon\n  unread:",
            "sample.prompts.0: input should be a valid string; YAML takes it for something else",
        ),
        (
            "extra_corpora",
            "extra_corpora: [corpora/a.txt, ./corpora/a.txt]",
            "extra_corpora has 'corpora/a.txt' again as './corpora/a.txt'; take one out",
        ),
    ],
)
def test_a_mistake_is_one_line_with_file_key_value_and_what_is_allowed(
    tmp_path: Path, key: str, line: str, said: str
) -> None:
    path = written(tmp_path, key, line)
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
    path = written(tmp_path, "learning_rate", f"learning_rate: {text}")
    path.write_text(re.sub(r" steps: \d+", " steps: 1_000", path.read_text()))
    params = load(path)
    assert params.train.learning_rate == value
    assert params.train.steps == 1000
    assert params.model_dump() == load_yaml(str(path))


def test_the_stride_of_a_model_from_elsewhere_is_compared_with_its_own_context(
    tmp_path: Path,
) -> None:
    path = written(tmp_path, "stride", "stride: 9999\n  model: pretrained/theirs")
    path.write_text(path.read_text().replace("  model: #", "  #", 1))
    assert load(path).evaluate.stride == 9999


def test_no_is_a_word(tmp_path: Path) -> None:
    path = written(tmp_path, "text_column", "text_column: no")
    assert load(path).data.text_column == "no"


@pytest.mark.parametrize(
    ("source", "values", "unread"),
    [
        ("wikipedia", {"dataset": "me/texts", "revision": "f0"}, "dataset, revision"),
        ("wikipedia", {"config": "sample-10BT"}, "config"),
        ("fineweb", {"dataset": "me/texts"}, "dataset"),
        ("fineweb", {"held_out_split": "test"}, "held_out_split"),
        ("files", {"split": "test"}, "split"),
        ("wikipedia", {"files": "corpora/a.md"}, "files"),
    ],
)
def test_a_name_of_texts_that_the_source_does_not_read_is_refused(
    tmp_path: Path, source: str, values: dict[str, str], unread: str
) -> None:
    """Else the texts of another source would stand under that name."""
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    apply_overrides(path, [f"data.source={source}"])
    load(path)
    apply_overrides(path, [f"data.{key}={value}" for key, value in values.items()])
    said = f"data: source is {source}, which does not read {unread}: set source to one that does"
    with pytest.raises(UserError, match=said) as error:
        load(path)
    apply_overrides(path, re.findall("-S '(.*?)'", str(error.value)))  # as it says
    load(path)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("sample.temperatures=[0.8,1,0.8]", "sample: temperatures has 0.8 twice; take one out"),
        ("sample.prompts=[a,b,a]", "sample: prompts has 'a' twice"),
        ("evaluate.extra_corpora=[a,a]", "evaluate: extra_corpora has 'a' twice"),
    ],
)
def test_a_list_holds_nothing_twice(tmp_path: Path, setting: str, said: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    apply_overrides(path, [setting])
    with pytest.raises(UserError, match=said):
        load(path)


def test_no_file_and_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; run from the project's root"):
        load(tmp_path / "params.yaml")
    for text in ("- a\n", "", "# a comment"):
        (tmp_path / "params.yaml").write_text(text)
        with pytest.raises(UserError, match=r"it should be a file with the sections data, tokeni"):
            load(tmp_path / "params.yaml")


@pytest.mark.parametrize("key", ["evaluate.extra_corpora", "sample.prompts", "sample.temperatures"])
def test_a_list_may_be_filled_emptied_and_filled_again(tmp_path: Path, key: str) -> None:
    """DVC writes the file anew each time; a comment behind a list would be in its way."""
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    before = flatten(load(path).model_dump())
    for value in ("[1.5, 2]", "[]", "[0.5]"):
        apply_overrides(path, [f"{key}={value}"])
    apply_overrides(path, [f"{key}={before[key]!r}"])
    assert flatten(load(path).model_dump()) == before


def test_an_experiment_changes_a_line_a_parameter(tmp_path: Path) -> None:
    """params.yaml is written as DVC's writer writes it, so that `git diff` shows what changed."""
    path = tmp_path / "params.yaml"
    before = (ROOT / "params.yaml").read_text().splitlines()
    path.write_text("\n".join(before) + "\n")
    apply_overrides(path, ["model.dropout=0.25", "train.tokens=500", "runtime.device=cpu"])
    after = path.read_text().splitlines()
    changed = [line.split("#")[0].strip() for line in after if line not in before]
    assert changed == ["dropout: 0.25", "tokens: 500", "device: cpu"]
    assert len(after) == len(before)


def test_rates_that_change_at_each_step_are_not_compiled(tmp_path: Path) -> None:
    path = written(tmp_path, "compile", "compile: true")
    assert load(path).train.compile is True
    text = path.read_text().replace("dropout_schedule: constant", "dropout_schedule: linear_up")
    path.write_text(text)
    with pytest.raises(UserError, match=r"train: dropout_schedule linear_up .* compiled anew"):
        load(path)
