"""Sound and files. Their rules have changed before, and most of what they cost is decided by the server: guesses.

A sound costs ten tokens a second. A PDF costs its text, and in chat completions also a picture of each page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpt_batch_api.tokens.count import Count, fitted, guess
from gpt_batch_api.tokens.data_uri import DataUri, bare_base64
from gpt_batch_api.tokens.models import Model, drifting
from gpt_batch_api.tokens.pdf import read_pdf

_ASSUMED_MP3_BITS_PER_SECOND = 128_000
_MP3_HERTZ = (44100, 48000, 32000)
_MP3_KBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MP3_KBITS_LOW_RATE = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MOST_WAV_CHUNKS = 1000
_MOST_TEXT_BYTES = 16_000_000


def count_audio(audio: Any) -> Count:
    """Tokens of an `input_audio` part: `{"data": base64, "format": "wav"}`."""
    data = audio.get("data") if isinstance(audio, Mapping) else None
    if not isinstance(data, str):
        return guess(0, "audio without data: counted as 0 tokens")
    sound = bare_base64(data)
    seconds = _wav_seconds(sound)
    if seconds is not None:
        return fitted(_audio_tokens(seconds))
    seconds, told = _mp3_seconds(sound)
    tokens = _audio_tokens(seconds)
    return fitted(tokens) if told else guess(tokens, f"audio: length taken from its size, about {seconds:.0f} s")


def count_file(part: Mapping[str, Any], *, model: Model, chat: bool) -> Count:
    """Tokens of a file part, of chat completions or of Responses."""
    inner = part.get("file")
    file = inner if isinstance(inner, Mapping) else part
    data = file.get("file_data")
    if not isinstance(data, str):
        return guess(0, "file by id or URL: its content is unknown, counted as 0 tokens")
    content = bare_base64(data)
    if content.read(0, 5) != b"%PDF-":
        text = content.read(0, _MOST_TEXT_BYTES).decode(errors="replace")
        return guess(model.n(text), "file: counted as its text")
    pdf = read_pdf(content)
    extra = drifting("pdf_chat_page") * pdf.pages if chat else drifting("pdf_responses_extra")
    return guess(model.n(pdf.text) + extra, f"PDF of {pdf.pages} pages: text and page pictures are approximate")


def _audio_tokens(seconds: float) -> int:
    return int(drifting("audio_per_second") * seconds) + int(drifting("audio_extra"))


def _wav_seconds(sound: DataUri) -> float | None:
    """How long a WAV file plays: the size of its data chunk by its bytes a second."""
    if sound.read(0, 4) != b"RIFF" or sound.read(8, 4) != b"WAVE":
        return None
    place, bytes_per_second = 12, 0
    for _ in range(_MOST_WAV_CHUNKS):
        chunk = sound.read(place, 20)
        if len(chunk) < 8:
            break
        size = int.from_bytes(chunk[4:8], "little")
        if chunk[:4] == b"fmt ":
            bytes_per_second = int.from_bytes(chunk[16:20], "little")
        elif chunk[:4] == b"data":
            rest = sound.size_bytes - place - 8
            return min(size, rest) / bytes_per_second if bytes_per_second else None
        place += 8 + size + size % 2
    return None


def _mp3_seconds(sound: DataUri) -> tuple[float, bool]:
    """How long an MP3 file plays, and whether its head said so: else the first frame's bit rate is taken for all."""
    place = _after_id3(sound)
    frame = sound.read(place, 64)
    if len(frame) < 64 or frame[0] != 0xFF or frame[1] < 0xE0 or frame[2] >> 4 == 15 or frame[2] >> 2 & 3 == 3:
        return sound.size_bytes * 8 / _ASSUMED_MP3_BITS_PER_SECOND, False
    first_version = frame[1] & 0x18 == 0x18
    head = max(frame.find(b"Xing"), frame.find(b"Info"))
    if 0 < head <= 48 and frame[head + 7] & 1:
        frames = int.from_bytes(frame[head + 8 : head + 12], "big")
        rate = _MP3_HERTZ[frame[2] >> 2 & 3] >> (0 if first_version else 1 if frame[1] & 0x10 else 2)
        return frames * (1152 if first_version else 576) / rate, True
    kbits = (_MP3_KBITS if first_version else _MP3_KBITS_LOW_RATE)[frame[2] >> 4]
    return max(0, sound.size_bytes - place) * 8 / (kbits * 1000 or _ASSUMED_MP3_BITS_PER_SECOND), False


def _after_id3(sound: DataUri) -> int:
    """Where the sound begins: behind the ID3 tag, if there is one."""
    head = sound.read(0, 10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
