"""`python -m clients talk`: say a recording, speak, or write to a server, and read and hear what it answers."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clients.audio_files import read_wav, write_wav
from clients.errors import ClientError
from clients.microphone import Loudspeaker, Microphone, open_devices
from clients.moshi import MoshiClient
from clients.realtime import RealtimeClient
from clients.tasks import first_done
from clients.terminal import Terminal
from clients.turns import Turn
from streaming import server_events as events
from streaming.audio import AudioFormat
from streaming.config import PcmFormat
from streaming.engine import Samples
from streaming.wire.moshi import Frame, Metadata
from streaming.wire.moshi_query import ChatQuery

_RATE = 24_000
_PCM16 = AudioFormat.of(PcmFormat())
_SPEAK = "Speak; Ctrl-C ends the conversation."
_OK, _FAILED, _INTERRUPTED = 0, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0, 1 where the conversation failed, 2 for a wrong command line."""
    options = _parser().parse_args(arguments)
    terminal = Terminal(sys.stdout)
    try:
        return asyncio.run(_talk(options, terminal))
    except ClientError as error:
        print(f"error: {error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m clients", description="Talk to Muse from the command line.")
    talk = parser.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "talk", help="have a conversation", description="Say recordings, speak, or write to a server; one turn each."
    )
    talk.add_argument("files", nargs="*", type=Path, metavar="FILE.wav", help="recordings to say, one turn each")
    talk.add_argument("--mic", action="store_true", help="speak; wear headphones, or Muse hears itself")
    talk.add_argument("--text", action="append", default=[], metavar="WORDS", help="write instead of speaking")
    talk.add_argument("--url", default="ws://127.0.0.1:8000/v1/realtime", help="the server (default: %(default)s)")
    talk.add_argument(
        "--moshi",
        metavar="URL",
        help="a server of Moshi's protocol (stock, a worker, or Muse) instead, such as ws://127.0.0.1:8998/api/chat",
    )
    talk.add_argument("--pcm", action="store_true", help="with --moshi: PCM instead of opus, which stock ones lack")
    talk.add_argument("--api-key", metavar="KEY", help="the key that the server wants, if it wants one")
    talk.add_argument("--model", default="auto", help="the model to talk to (default: %(default)s)")
    talk.add_argument("--instructions", metavar="WORDS", help="what Muse is told to be")
    talk.add_argument("--out", type=Path, metavar="reply.wav", help="where to write what Muse says")
    talk.set_defaults(parser=talk)
    return parser


async def _talk(options: argparse.Namespace, terminal: Terminal) -> int:
    if bool(options.files or options.text) == options.mic:
        options.parser.error("give recordings, --text or --mic")
    if options.mic and options.out:
        options.parser.error("--out goes with recordings and --text")
    if options.pcm and not options.moshi:
        options.parser.error("--pcm goes with --moshi")
    if options.moshi:
        return await _talk_moshi(options, terminal)
    recordings = [read_wav(path, rate=_RATE) for path in options.files]
    async with RealtimeClient.connect(options.url, api_key=options.api_key, model=options.model) as client:
        settings: dict[str, object] = {"audio": {"input": {"transcription": {}}}}
        if options.instructions is not None:
            settings["instructions"] = options.instructions
        await client.update(**settings)
        if options.mic:
            return await _converse(client, terminal)
        turns = [await client.turn(samples, rate=_RATE, watch=terminal.show) for samples in recordings]
        turns += [await client.write(text, watch=terminal.show) for text in options.text]
    if options.out is not None:
        _write(options.out, [turn.reply_audio for turn in turns], turns[0].rate, terminal)
    return _OK if all(map(_answered, turns)) else _FAILED


async def _talk_moshi(options: argparse.Namespace, terminal: Terminal) -> int:
    if options.text:
        options.parser.error("Moshi's protocol has no --text from a client")
    recordings = [read_wav(path, rate=_RATE) for path in options.files]
    query = ChatQuery(text_prompt=options.instructions or "", audio="pcm" if options.pcm else "opus")
    model = None if options.model == "auto" else options.model
    async with MoshiClient.connect(options.moshi, query=query, api_key=options.api_key, model=model) as client:
        if options.mic:
            return await _converse_moshi(client, terminal)
        turns = []
        for samples in recordings:
            turn = await client.turn(samples, rate=_RATE, watch=terminal.overhear)
            terminal.answered(turn.text, turn.wait)
            turns.append(turn)
    if options.out is not None:
        _write(options.out, [turn.audio for turn in turns], _RATE, terminal)
    return _OK


def _write(path: Path, replies: Sequence[Samples], rate: int, terminal: Terminal) -> None:
    write_wav(path, np.concatenate(replies), rate=rate)
    terminal.note(f"      written to {path}")


def _answered(turn: Turn) -> bool:
    return turn.status in ("completed", "incomplete")


async def _converse(client: RealtimeClient, terminal: Terminal) -> int:
    with open_devices() as (microphone, loudspeaker):
        terminal.note(_SPEAK)
        await first_done(_speak(client, microphone), _listen(client, terminal, loudspeaker))
    return _OK


async def _converse_moshi(client: MoshiClient, terminal: Terminal) -> int:
    with open_devices() as (microphone, loudspeaker):
        terminal.note(_SPEAK)
        await first_done(_speak_moshi(client, microphone), _overhear(client, terminal, loudspeaker))
    return _OK


async def _speak_moshi(client: MoshiClient, microphone: Microphone) -> None:
    while True:
        await client.append(_PCM16.decode(await microphone.next()))


async def _overhear(client: MoshiClient, terminal: Terminal, loudspeaker: Loudspeaker) -> None:
    async for message in client:
        terminal.overhear(message)
        match message:
            case Frame():
                loudspeaker.play(_PCM16.encode(message.audio))
            case Metadata(values={"type": "interrupted"}):
                loudspeaker.stop()


async def _speak(client: RealtimeClient, microphone: Microphone) -> None:
    while True:
        await client.append(await microphone.next())


async def _listen(client: RealtimeClient, terminal: Terminal, loudspeaker: Loudspeaker) -> None:
    async for event in client:
        terminal.show(event)
        match event:
            case events.AudioDelta():
                loudspeaker.play(event.delta)
            case events.BargeInProgress(phase="onset"):
                loudspeaker.duck(softly=True)
            case events.BargeInProgress(phase="dismissed"):
                loudspeaker.duck(softly=False)
            case events.BargeInProgress(phase="decided"):
                loudspeaker.stop()
