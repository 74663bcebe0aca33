"""Writes a commitment on chain. Whether it ought to be written, and what became of it, is for others to read."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import bittensor as bt

from models.hub.errors import printable
from routing.chain.connection import connected
from routing.chain.errors import ChainError
from routing.chain.reader import ChainReader

SUBMIT_SECONDS = 180.0
"""Longest wait for a block that holds it and is final; usually under a minute."""


class CommitmentRefusedError(ChainError):
    """The chain did not take a commitment; the message is its own."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="commitment_refused")


async def write_commitment(reader: ChainReader, text: str, wallet: bt.WalletLike) -> None:
    """Sign `text` with the wallet's hotkey and write it where `reader` reads; returns when the block is final.

    Raises CommitmentRefusedError with the chain's own reason, and ChainUnavailableError where the chain does not
    answer: then it may have been written all the same.
    """
    data = text.encode()
    call = bt.calls.Commitments.set_commitment(netuid=reader.netuid, info={"fields": [{f"Raw{len(data)}": data}]})
    patient = replace(reader, timeout=SUBMIT_SECONDS)
    with patient.failures_named():
        try:
            async with asyncio.timeout(patient.timeout), connected(reader.network, reader.open_substrate) as client:
                result = await client.submit_call(call, wallet, signer="hotkey")
        except bt.ChainError as error:
            raise CommitmentRefusedError(_described(error)) from None
        if not result.success:
            raise CommitmentRefusedError(_described(result.error) if result.error else printable(result.message, 300))


def _described(error: bt.BittensorError) -> str:
    """The chain's name for it, its message, and what the SDK knows of it."""
    if not isinstance(error, bt.ChainError):
        return printable(str(error), 300)
    said = f"{error.name}: {error.message}" if error.name else error.message
    return f"{printable(said, 300)}; {error.description or error.remediation}"
