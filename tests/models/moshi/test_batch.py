"""The whole batch: parity with moshi's own server, neighbours, personas, failures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from moshi.models.lm import LMGen
from moshi.utils.compile import no_compile
from torch.utils._python_dispatch import TorchDispatchMode

from models.instructions import DEFAULT_INSTRUCTIONS
from models.mimi import MimiBatch
from models.moshi.batch import MoshiBatch
from models.moshi.checkpoint import load_lm, load_mimi
from models.moshi.files import load_tokenizer, read_checkpoint
from models.worker.batch import FrameOut, SlotOptions
from streaming.engine import Samples
from streaming.errors import EngineError, PeerError

pytestmark = pytest.mark.timeout(600)  # hundreds of steps of a model, on one thread

GREEDY = SlotOptions(text_temperature=0, audio_temperature=0)
SAMPLED = SlotOptions(seed=3)
MIMI_CONTEXT = 24  # frames for which moshi's own ring, of 50 steps at two a frame, has lost nothing
WINDOW = 256

Said = tuple[npt.NDArray[np.int64], Samples]
Spoken = list[Said | None]


def recording(seed: int, frames: int = 40) -> Samples:
    """Noise that swells, shape (frames, 1920)."""
    generator = np.random.default_rng(seed)
    swell = 0.02 + 0.2 * generator.random((frames, 1))
    return (generator.standard_normal((frames, 1920)) * swell).astype(np.float32)


@contextmanager
def loaded(directory: Path, slots: int, **options: Any) -> Iterator[MoshiBatch]:
    batch = MoshiBatch(directory, slots=slots, device="cpu", **options)
    batch.load()
    yield batch
    batch.close()


@pytest.fixture(scope="module")
def moshi(tiny_moshi: Path) -> Iterator[MoshiBatch]:
    """Three slots, empty again after each test that keeps to the rules."""
    with loaded(tiny_moshi, 3) as batch:
        yield batch


@pytest.fixture(scope="module")
def persona(tiny_personaplex: Path) -> Iterator[MoshiBatch]:
    with loaded(tiny_personaplex, 3, window=WINDOW) as batch:
        yield batch


def prepare(batch: MoshiBatch) -> int:
    """Take all prompts in; returns how many pieces that took."""
    pieces = 1
    while batch.prepare():
        pieces += 1
    return pieces


def converse(batch: MoshiBatch, slot: int, audio: Samples) -> list[FrameOut]:
    return [batch.step({slot: frame}).frames[slot] for frame in audio]


def assert_same(said: list[FrameOut], expected: list[FrameOut]) -> None:
    assert len(said) == len(expected)
    for one, other in zip(said, expected, strict=True):
        assert one.text == other.text
        assert one.text_token == other.text_token
        for name in ("own", "heard", "audio"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def server_loop(directory: Path, audio: Samples, *, own_codec: bool) -> Spoken:
    """What moshi's server does with one conversation, the likeliest tokens; None while its delays have not passed.

    With `own_codec` its Mimi is ours, whose ring has room for all that is attended to.
    """
    checkpoint = read_checkpoint(directory)
    codec: Any = load_mimi(checkpoint, "cpu")
    gen = LMGen(load_lm(checkpoint, device="cpu"), use_sampling=False)
    one = torch.ones(1, dtype=torch.bool)
    if own_codec:
        batch = MimiBatch(codec, 1)
        encode: Callable[..., Any] = lambda chunk: batch.encode(chunk, one)[:, :, None]  # noqa: E731
        decode: Callable[..., Any] = lambda codes: batch.decode(codes[:, :, 0], one)[:, None]  # noqa: E731
        reset: Callable[[], None] = lambda: batch.reset(one)  # noqa: E731
    else:
        codec.streaming_forever(1)
        encode, decode, reset = codec.encode, codec.decode, codec.reset_streaming
    spoken: Spoken = []
    with torch.no_grad(), gen.streaming(1), no_compile():
        for number, frame in enumerate(audio):
            codes = encode(torch.from_numpy(frame)[None, None])
            if number == 0:
                reset()
            tokens = gen.step(codes)
            said = (
                None if tokens is None else (tokens[0, :, 0].numpy().copy(), decode(tokens[:, 1:])[0, 0].numpy().copy())
            )
            spoken.append(said)
    return spoken


@pytest.mark.parametrize("own_codec", [False, True])
def test_it_says_what_moshis_server_says(tiny_moshi: Path, moshi: MoshiBatch, own_codec: bool) -> None:
    audio = recording(0, 80 if own_codec else MIMI_CONTEXT)  # 80 frames: past the model's window of 64
    expected = server_loop(tiny_moshi, audio, own_codec=own_codec)
    with loaded(tiny_moshi, 1) as alone:
        for batch, tolerance in ((alone, 0.0 if own_codec else 1e-6), (moshi, 1e-5)):
            batch.join(0, GREEDY)
            said = converse(batch, 0, audio)
            batch.leave(0)
            assert [one.audio.size for one in said[:2]] == [0, 1920]
            assert (said[0].heard == -1).all()
            for one, stock in zip(said, expected, strict=True):
                if stock is None:
                    assert one.text_token == -1
                    continue
                tokens, pcm = stock
                assert [one.text_token, *one.own] == tokens.tolist()
                np.testing.assert_allclose(one.audio, pcm, rtol=0, atol=tolerance)
    assert len({one.text_token for one in said}) > 5


def test_captions_are_the_tokens_as_text(tiny_moshi: Path, moshi: MoshiBatch) -> None:
    tokenizer = load_tokenizer(read_checkpoint(tiny_moshi))
    moshi.join(1, SAMPLED)
    said = converse(moshi, 1, recording(1))
    moshi.leave(1)
    assert sum(bool(one.text) for one in said) > 10
    for one in said:
        if one.text_token in (-1, 0, 1, 2, 3):
            assert one.text == ""
        elif not tokenizer.IsByte(one.text_token):
            assert one.text.endswith(tokenizer.IdToPiece(one.text_token).replace("▁", " "))


def test_a_session_never_depends_on_its_neighbours(moshi: MoshiBatch) -> None:
    audio = recording(2)
    moshi.join(1, SAMPLED)
    alone = converse(moshi, 1, audio)
    moshi.leave(1)

    moshi.join(0, replace(SAMPLED, seed=9, audio_temperature=1.5))
    moshi.join(2, GREEDY)
    for frame in recording(3, 7):
        moshi.step({0: frame, 2: frame})
    moshi.join(1, SAMPLED)
    said = []
    for number, (frame, other) in enumerate(zip(audio, recording(4), strict=True)):
        if number == 20:
            moshi.leave(2)
        if number == 25:
            moshi.join(2, replace(SAMPLED, seed=10))
        moshi.step({0: other})  # a tick without the slot's frame
        said.append(moshi.step({1: frame} | ({2: other} if not 20 <= number < 25 else {})).frames[1])
    for slot in range(3):
        moshi.leave(slot)
    assert_same(said, alone)


def test_the_same_seed_in_another_slot_says_the_same(moshi: MoshiBatch) -> None:
    audio = recording(5, 30)
    for slot, seed in ((0, 1), (1, 1), (2, 2)):
        moshi.join(slot, replace(SAMPLED, seed=seed))
    steps = [moshi.step(dict.fromkeys(range(3), frame)).frames for frame in audio]
    for slot in range(3):
        moshi.leave(slot)
    assert_same([step[1] for step in steps], [step[0] for step in steps])
    assert any(step[2].own.tolist() != step[0].own.tolist() for step in steps[2:])


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_frame_that_is_not_finite_fails_its_slot_alone(moshi: MoshiBatch, value: float) -> None:
    audio = recording(6, 25)
    moshi.join(1, SAMPLED)
    alone = converse(moshi, 1, audio)
    moshi.leave(1)

    poison = np.full(1920, value, np.float32)
    moshi.join(0, SAMPLED)
    moshi.join(1, SAMPLED)
    said = []
    for number, frame in enumerate(audio):
        step = moshi.step({1: frame} | ({0: poison if number == 4 else frame} if number < 5 else {}))
        assert set(step.failed) == ({0} if number == 4 else set())
        said.append(step.frames[1])
    moshi.leave(0)
    moshi.leave(1)
    assert_same(said, alone)

    moshi.join(0, SAMPLED)  # nothing of the poison is left in the slot
    again = [moshi.step({0: frame}) for frame in audio]
    moshi.leave(0)
    assert not any(step.failed for step in again)
    assert [step.frames[0].own.tolist() for step in again] == [one.own.tolist() for one in alone]


def test_weights_that_give_nothing_finite_fail_the_slot_and_not_the_batch(tiny_moshi: Path) -> None:
    with loaded(tiny_moshi, 2) as batch:
        model: Any = batch._loaded
        batch.join(0, SAMPLED)
        batch.join(1, SAMPLED)
        frame = recording(0, 1)[0]
        batch.step({0: frame, 1: frame})
        model.lm.lm.linears[7].weight.fill_(torch.nan)
        step = batch.step({1: frame})
        assert step.frames == {}
        assert step.failed == {1: "the model's output for this conversation was not finite"}


def test_nothing_to_do_is_nothing_done(moshi: MoshiBatch) -> None:
    step = moshi.step({})
    assert (step.frames, step.failed, step.model) == ({}, {}, 0)
    assert moshi.prepare() is False


def test_plain_moshi_ignores_instructions_and_has_no_voices(moshi: MoshiBatch) -> None:
    assert (moshi.info.voices, moshi.info.instructed) == ((), False)
    assert (moshi.info.duplex, moshi.info.input_rate, moshi.info.output_rate) == (True, 24_000, 24_000)
    audio = recording(7, 10)
    said = []
    for instructions in ("", DEFAULT_INSTRUCTIONS):
        moshi.join(0, replace(SAMPLED, instructions=instructions))
        assert moshi.ready(0)
        said.append(converse(moshi, 0, audio))
        moshi.leave(0)
    assert_same(*said)
    with pytest.raises(PeerError, match="there is no voice 'alto'; voices: none"):
        moshi.join(0, replace(SAMPLED, voice="alto"))
    moshi.join(0, SAMPLED)  # the slot was left free
    moshi.leave(0)


def test_a_persona_is_taken_in_by_pieces_and_the_next_of_it_joins_at_once(persona: MoshiBatch) -> None:
    assert (persona.info.voices, persona.info.instructed) == (("alto", "bass"), True)
    options = replace(SAMPLED, instructions=DEFAULT_INSTRUCTIONS, voice="alto")
    persona.join(0, options)
    persona.join(1, options)  # waits for the same prompt
    assert not persona.ready(0)
    assert prepare(persona) > 3
    assert persona.ready(0)
    assert persona.ready(1)
    persona.join(2, options)
    assert persona.ready(2)
    audio = recording(8, 20)
    steps = [persona.step(dict.fromkeys(range(3), frame)).frames for frame in audio]
    for slot in range(3):
        persona.leave(slot)
    for slot in (1, 2):
        assert_same([step[slot] for step in steps], [step[0] for step in steps])
    assert steps[0][0].audio.size == 1920  # the prompt's last frame, silence, has no delay to wait for


def test_one_of_two_who_wait_for_the_same_prompt_may_leave(persona: MoshiBatch) -> None:
    options = replace(SAMPLED, instructions="You are shared by two who call.", voice="bass")
    audio = recording(12, 8)
    persona.join(0, options)
    persona.join(1, options)
    assert persona.prepare()
    persona.leave(0)
    prepare(persona)
    assert persona.ready(1)
    said = converse(persona, 1, audio)
    persona.leave(1)
    persona.join(2, options)
    assert_same(converse(persona, 2, audio), said)
    persona.leave(2)

    persona.join(0, replace(options, instructions="Nobody waits for this one."))
    assert persona.prepare()
    persona.leave(0)
    assert not persona.prepare()


def test_personas_differ_and_say_the_same_each_time(persona: MoshiBatch) -> None:
    audio = recording(9, 20)
    said = []
    for instructions, voice in (
        ("Be kind.", "alto"),
        ("Be kind.", "bass"),
        ("Be brief.", "alto"),
        ("Be kind.", "alto"),
    ):
        persona.join(0, replace(GREEDY, instructions=instructions, voice=voice))
        prepare(persona)
        said.append([one.own.tolist() for one in converse(persona, 0, audio)])
        persona.leave(0)
    assert said[3] == said[0]
    assert said[1] != said[0]
    assert said[2] != said[0]
    assert said[1] != said[2]


def test_a_persona_that_is_taken_in_changes_nothing_for_the_others(persona: MoshiBatch) -> None:
    audio = recording(10, 25)
    said = []
    for beside in (False, True):
        persona.join(0, replace(SAMPLED, instructions="Be brief."))
        prepare(persona)
        spoken = []
        for number, frame in enumerate(audio):
            if beside and number == 5:
                persona.join(2, replace(SAMPLED, instructions="You sell boats, and nothing but boats.", voice="bass"))
            if beside:
                persona.prepare()
            heard = {0: frame} | ({2: frame} if number > 5 and beside and persona.ready(2) else {})
            spoken.append(persona.step(heard).frames[0])
        said.append(spoken)
        for slot in (0, 2) if beside else (0,):
            persona.leave(slot)
    assert_same(said[1], said[0])


def test_who_leaves_before_the_persona_is_there_leaves_nothing_waiting(persona: MoshiBatch) -> None:
    persona.join(0, replace(SAMPLED, instructions="Never asked for again."))
    assert persona.prepare()
    persona.leave(0)
    assert not persona.prepare()


@pytest.mark.parametrize(
    ("options", "param"),
    [
        (replace(SAMPLED, voice="tenor"), "voice"),
        (replace(SAMPLED, voice="../voices/alto"), "voice"),
        (replace(SAMPLED, instructions="word " * 400), "instructions"),
        (replace(SAMPLED, audio_top_k=-1), "audio_top_k"),
        (replace(SAMPLED, text_temperature=float("nan")), "text_temperature"),
    ],
)
def test_options_that_cannot_be_taken_are_refused_by_name(
    persona: MoshiBatch, options: SlotOptions, param: str
) -> None:
    with pytest.raises(PeerError) as caught:
        persona.join(0, options)
    assert caught.value.param == param
    persona.join(0, SAMPLED)
    persona.leave(0)


def test_instructions_are_bounded_before_they_are_tokenized(
    persona: MoshiBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persona._loaded, "_tokenizer", None)
    with pytest.raises(PeerError, match="instructions have 10001 characters; expected at most 10000"):
        persona.join(0, replace(SAMPLED, instructions="x" * 10_001))


class _Waits(TorchDispatchMode):
    """Counts the operations for whose result a host has to wait for its device."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        if any(name in str(func) for name in ("_local_scalar_dense", "nonzero", "masked_select", "unique")):
            self.waits.append(str(func))
        return func(*args, **(kwargs or {}))


def test_nothing_in_a_tick_waits_for_the_device_but_its_end(persona: MoshiBatch) -> None:
    persona.join(0, SAMPLED)
    prepare(persona)
    with _Waits() as seen:
        for frame in recording(0, 3):
            persona.step({0: frame})
    persona.leave(0)
    assert seen.operations > 1000
    assert seen.waits == []


def test_the_times_of_a_step_are_its_parts(moshi: MoshiBatch) -> None:
    moshi.join(0, SAMPLED)
    step = moshi.step({0: recording(0, 1)[0]})
    moshi.leave(0)
    assert min(step.encode, step.model, step.decode) > 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slots": 0}, "slots is 0; expected at least 1"),
        ({"slots": 1, "window": 0}, "window is 0; expected 1 to"),
        ({"slots": 1, "window": 31}, "window is 31; a persona needs at least 32 frames"),
    ],
)
def test_a_shape_that_cannot_be_is_named(tiny_personaplex: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        MoshiBatch(tiny_personaplex, device="cpu", **options).load()


def test_no_memory_for_the_slots_is_named(tiny_moshi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("models.moshi.batch.SlotLm", full)
    with pytest.raises(EngineError, match="no memory for 7 slots with a window of 64 frames"):
        MoshiBatch(tiny_moshi, slots=7, device="cpu").load()


def test_a_missing_directory_and_a_missing_gpu_are_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="there is no directory"):
        MoshiBatch(tmp_path / "nothing", slots=1, device="cpu").load()
    with pytest.raises(EngineError, match="device is 'abacus'; expected cpu, cuda"):
        MoshiBatch(tmp_path, slots=1, device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="there is no CUDA device"):
            MoshiBatch(tmp_path, slots=1).load()


def with_config(directory: Path, copy: Path, **values: Any) -> Path:
    """A copy of the checkpoint whose configuration says this too."""
    shutil.copytree(directory, copy)
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return copy


def test_a_checkpoints_own_sampling_is_what_a_session_gets_that_asks_for_none(tiny_moshi: Path, tmp_path: Path) -> None:
    own = {"temp": 0.0, "temp_text": 0.0, "top_k": 3, "top_k_text": 2}
    with loaded(with_config(tiny_moshi, tmp_path / "own", lm_gen_config=own), 2) as batch:
        audio = recording(9, 12)
        batch.join(0, SlotOptions(seed=1))
        batch.join(1, replace(GREEDY, seed=2))
        steps = [batch.step({0: frame, 1: frame}).frames for frame in audio]
        assert_same([step[0] for step in steps], [step[1] for step in steps])
        for slot in (0, 1):
            batch.leave(slot)
        batch.join(0, SlotOptions(seed=1, audio_temperature=1.0, audio_top_k=0))
        said = converse(batch, 0, audio)
        assert any(one.own.tolist() != step[0].own.tolist() for one, step in zip(said, steps, strict=True))


def test_a_checkpoints_sampling_that_cannot_be_done_is_said_at_load(tiny_moshi: Path, tmp_path: Path) -> None:
    directory = with_config(tiny_moshi, tmp_path / "many", lm_gen_config={"top_k": 257})
    with pytest.raises(EngineError, match="lm_gen_config has a top_k above 256"):
        MoshiBatch(directory, slots=1, device="cpu").load()


def test_a_slot_whose_join_broke_halfway_can_be_left_and_used(
    persona: MoshiBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise MemoryError

    audio = recording(10, 8)
    persona.join(1, SAMPLED)
    prepare(persona)
    alone = converse(persona, 1, audio)
    persona.leave(1)
    model: Any = persona._loaded
    for part, name in ((model, "prompt"), (model.lm, "join"), (model.prefill, "ask")):
        with monkeypatch.context() as patch:
            patch.setattr(part, name, broken)
            with pytest.raises(MemoryError):
                persona.join(1, replace(SAMPLED, instructions=f"You are {name}."))
        persona.leave(1)
    persona.join(1, SAMPLED)
    prepare(persona)
    assert_same(converse(persona, 1, audio), alone)
    persona.leave(1)


@pytest.mark.parametrize(("device", "used"), [("cuda", []), ("cuda:1", ["cuda:1"])])
def test_a_device_that_is_named_is_the_threads_own(
    tiny_moshi: Path, monkeypatch: pytest.MonkeyPatch, device: str, used: list[str]
) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda which: chosen.append(str(which)))
    with pytest.raises(Exception):  # noqa: B017, PT011 there is no CUDA here
        MoshiBatch(tiny_moshi, slots=1, device=device).load()
    assert chosen == used
    with pytest.raises(EngineError, match="there is no device cuda:2; there are 2"):
        MoshiBatch(tiny_moshi, slots=1, device="cuda:2").load()
