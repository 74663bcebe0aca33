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
from clients.realtime import RealtimeClient
from clients.tasks import first_done
from clients.terminal import Terminal
from clients.turns import Turn
from streaming import server_events as events

_RATE = 24_000
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
        write_wav(options.out, np.concatenate([turn.reply_audio for turn in turns]), rate=turns[0].rate)
        terminal.note(f"      written to {options.out}")
    return _OK if all(map(_answered, turns)) else _FAILED


def _answered(turn: Turn) -> bool:
    return turn.status in ("completed", "incomplete")


async def _converse(client: RealtimeClient, terminal: Terminal) -> int:
    with open_devices() as (microphone, loudspeaker):
        terminal.note("Speak; Ctrl-C ends the conversation.")
        await first_done(_speak(client, microphone), _listen(client, terminal, loudspeaker))
    return _OK


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
