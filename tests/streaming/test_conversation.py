import pytest

from streaming import conversation as module
from streaming.audio import AudioFormat
from streaming.conversation import Conversation, as_messages
from streaming.errors import PeerError
from streaming.items import (
    FunctionCall,
    FunctionCallOutput,
    InputAudio,
    InputText,
    Item,
    Message,
    OutputAudio,
    OutputText,
)

PCM = AudioFormat("pcm16", 24_000)
LAW = AudioFormat("pcmu", 8000)


def spoken(item_id: str, transcript: str | None = None) -> Message:
    return Message(role="user", content=(InputAudio(transcript=transcript),), id=item_id)


def conversation(*ids: str) -> Conversation:
    made = Conversation()
    for item_id in ids:
        made.add(spoken(item_id, item_id))
    return made


def order(made: Conversation) -> list[str | None]:
    return [message.text for message in made.messages()]


def test_items_are_inserted_where_they_are_wanted() -> None:
    made = conversation("a", "b")
    assert made.add(spoken("c", "c"), after="a") == "a"
    assert made.add(spoken("d", "d"), after="root") is None
    assert made.add(spoken("e", "e")) == "b"
    assert order(made) == ["d", "a", "c", "b", "e"]
    assert made.before("c") == "a"


@pytest.mark.parametrize(
    ("item", "after", "code"),
    [(spoken("a"), None, "item_id_taken"), (spoken("x"), "nope", "item_not_found")],
)
def test_a_bad_insertion_changes_nothing(item: Item, after: str | None, code: str) -> None:
    made = conversation("a", "b")
    with pytest.raises(PeerError) as refused:
        made.add(item, after=after)
    assert refused.value.code == code
    assert order(made) == ["a", "b"]


def test_a_conversation_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ITEMS", 2)
    made = conversation("a", "b")
    with pytest.raises(PeerError, match="at most 2 items"):
        made.add(spoken("c"))


def test_the_session_s_own_items_take_the_place_of_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ITEMS", 2)
    made = conversation("a", "b")
    made.keep_audio("a", PCM, bytes(400))
    assert made.append(spoken("c", "c")) == "b"
    assert order(made) == ["b", "c"]
    assert "a" not in made


def test_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TEXT", 1000)
    made = conversation("a")
    long = Message(role="user", content=(InputText(text="x" * 800),), id="b")
    made.add(long)
    with pytest.raises(PeerError, match="1000 characters") as refused:
        made.add(spoken("c", "y" * 100))
    assert refused.value.code == "conversation_full"
    made.delete("b")
    made.add(spoken("c", "y" * 100))
    made.append(long)
    made.set_transcript("c", "y" * 300)
    assert order(made) == ["x" * 800]  # what the session itself adds makes room
    made.append(Message(role="user", content=(InputText(text=""),) * 20, id="d"))
    assert "b" not in made


def test_audio_of_an_item_that_is_not_there_is_not_kept() -> None:
    made = conversation("a")
    made.delete("a")
    made.keep_audio("a", PCM, bytes(400))
    made.add(spoken("a"))
    assert made.with_audio("a", PCM) == spoken("a")


def test_audio_is_shown_in_the_format_asked_for() -> None:
    made = conversation("a")
    made.keep_audio("a", PCM, bytes(48_000))
    (part,) = made.with_audio("a", PCM).content  # type: ignore[union-attr]
    assert part == InputAudio(audio=bytes(48_000), transcript="a")
    (part,) = made.with_audio("a", LAW).content  # type: ignore[union-attr]
    assert isinstance(part, InputAudio)
    assert part.audio is not None
    assert abs(len(part.audio) - 8000) <= 1


def test_the_oldest_audio_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AUDIO_BUDGET", 1000)
    made = conversation("a", "b", "c")
    for item_id in ("a", "b", "c"):
        made.keep_audio(item_id, PCM, bytes(400))
    kept = [made.with_audio(item_id, PCM).content[0].audio for item_id in "abc"]  # type: ignore[union-attr]
    assert [audio is not None for audio in kept] == [False, True, True]
    made.delete("b")
    made.keep_audio("a", PCM, bytes(600))
    assert made.with_audio("c", PCM).content[0].audio is not None  # type: ignore[union-attr]


def test_cutting_audio_counts_samples() -> None:
    made = conversation("a")
    made.keep_audio("a", PCM, bytes(400))
    made.cut_audio("a", 100)
    assert len(made.with_audio("a", PCM).content[0].audio or b"") == 200  # type: ignore[union-attr]


def test_what_was_deleted_stays_deleted() -> None:
    made = conversation("a", "b")
    made.delete("a")
    made.put(spoken("a", "back"))
    made.set_transcript("a", "back")
    assert order(made) == ["b"]
    with pytest.raises(PeerError, match="no item 'a'"):
        made.get("a")


def test_what_was_written_beside_speech_is_kept_while_its_words_are_not_known() -> None:
    parts = (InputText(text="Translate:"), InputAudio(), InputText(text="to French"))
    messages = as_messages((Message(role="user", content=parts, id="a"),))
    assert [(m.role, m.text, m.item_id) for m in messages] == [
        ("user", "Translate:", "a"),
        ("user", None, "a"),
        ("user", "to French", "a"),
    ]


def test_items_become_an_engine_s_context() -> None:
    items: tuple[Item, ...] = (
        Message(role="system", content=(InputText(text="Be kind."),), id="1"),
        Message(role="user", content=(InputText(text="Look:"), InputAudio(transcript="a cat")), id="2"),
        FunctionCall(name="f", arguments="{}", call_id="c", id="3"),
        FunctionCallOutput(call_id="c", output="7", id="4"),
        Message(role="assistant", content=(OutputAudio(transcript="Nice."),), id="5"),
        Message(role="assistant", content=(OutputText(text=""),), id="6"),
        spoken("7"),
    )
    assert [(m.role, m.text, m.item_id if m.text is None else None) for m in as_messages(items)] == [
        ("system", "Be kind.", None),
        ("user", "Look: a cat", None),
        ("assistant", "", None),
        ("tool", "7", None),
        ("assistant", "Nice.", None),
        ("user", None, "7"),
    ]
