from pathlib import Path

import pytest
from gguf import GGUFWriter

from models.embedded.chat_prompt import load_tokenizer
from models.embedded.convert import convert, converted_directory, write_once
from models.embedded.prepare import prepare_chat
from streaming.errors import EngineError


def write_gguf(path: Path, *, architecture: str = "llama", tokenizer: str = "gpt2") -> None:
    writer = GGUFWriter(path, architecture)
    writer.add_tokenizer_model(tokenizer)
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["a", "b"])
    writer.add_token_merges(["a b"])
    writer.add_token_types([1, 1])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("fields", "message"), [({"tokenizer": "llama"}, "tokenizer"), ({"architecture": "mamba"}, "architecture")]
)
def test_a_file_of_another_kind_is_refused_and_leaves_nothing(
    tmp_path: Path, fields: dict[str, str], message: str
) -> None:
    source = tmp_path / "model.gguf"
    write_gguf(source, **fields)
    with pytest.raises(EngineError, match=message):
        convert(source, tmp_path / "converted" / "x")
    assert not list((tmp_path / "converted").iterdir())


def test_a_result_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def fail(scratch: Path) -> None:
        (scratch / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_once(out, fail)
    assert not list(tmp_path.iterdir())
    write_once(out, lambda scratch: (scratch / "one").touch())
    write_once(out, fail)
    assert [path.name for path in out.iterdir()] == ["one"]


def test_two_writers_at_once_leave_one_result(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def overtaken(scratch: Path) -> None:
        (scratch / "slow").touch()
        write_once(out, lambda other: (other / "fast").touch())

    write_once(out, overtaken)
    assert [path.name for path in out.iterdir()] == ["fast"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_results_are_kept_apart_by_their_source(tmp_path: Path) -> None:
    assert converted_directory(tmp_path, "aa") != converted_directory(tmp_path, "bb")
    assert converted_directory(tmp_path, "aa").parent == tmp_path / "converted"


@pytest.mark.models
@pytest.mark.parametrize(
    "text",
    [
        "Hello there, how are you?",
        "It's 3.5 or 1999.",
        "na\u00efve \u65e5\u672c \U0001f600",
        "  two  spaces\n\n",
        "<|im_end|>",
    ],
)
def test_the_tokenizer_gives_every_text_back(models_dir: Path, text: str) -> None:
    tokenizer = load_tokenizer(prepare_chat(models_dir) / "tokenizer.json")
    encoded = tokenizer.encode(text)
    assert tokenizer.decode(encoded.ids) == text
    assert "<|im_end|>" not in encoded.tokens


@pytest.mark.models
def test_tokens_are_those_that_the_model_was_trained_with(models_dir: Path) -> None:
    tokenizer = load_tokenizer(prepare_chat(models_dir) / "tokenizer.json")
    assert tokenizer.encode("Don't wait 2023 days").tokens == [
        "Don", "'t", "\u0120wait", "\u0120", "2", "0", "2", "3", "\u0120days",
    ]  # fmt: skip
    assert [tokenizer.token_to_id(name) for name in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")] == [0, 1, 2]
