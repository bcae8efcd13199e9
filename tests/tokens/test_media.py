"""Sound and files."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_batch_api.tokens.data_uri import bare_base64, parse_data_uri
from gpt_batch_api.tokens.estimate import Sureness
from gpt_batch_api.tokens.pdf import read_pdf
from tests.tokens.helpers import chat, data_uri, n, responses, user, wav


def sound(raw: bytes, format_: str = "wav") -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(raw).decode(), "format": format_}}


def mp3(*, kbits_index: int, size_bytes: int, frames: int | None = None, tag: bytes = b"") -> bytes:
    """An MP3 at 48 kHz, one channel, whose first frame may tell how many frames follow."""
    head = bytes((0xFF, 0xFB, kbits_index << 4 | 1 << 2, 0xC4))
    told = b"" if frames is None else bytes(17) + b"Info" + struct.pack(">II", 1, frames)
    return tag + head + told + bytes(size_bytes - len(head) - len(told))


def document(text: str, *, pages: int = 1, packed: bool = True) -> bytes:
    """A PDF that draws *text*."""
    body = f"BT /F1 12 Tf ({text}) Tj ET".encode()
    body = zlib.compress(body) if packed else body
    page = b"3 0 obj << /Type /Page /Parent 2 0 R >> endobj\n"
    return (
        b"%PDF-1.4\n2 0 obj << /Type /Pages >> endobj\n"
        + page * pages
        + b"4 0 obj << >> stream\n"
        + body
        + b"\nendstream"
    )


def file_part(raw: bytes, mime: str = "application/pdf") -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": data_uri(raw, mime), "filename": "a.pdf"}}


@pytest.mark.parametrize(("seconds", "tokens"), [(0.125, 1 + 4), (1.0, 10 + 4), (1.99, 19 + 4), (60.0, 600 + 4)])
def test_a_wav_costs_ten_tokens_a_second(seconds: float, tokens: int) -> None:
    """Whole tokens, and four."""
    counted = chat(user([sound(wav(seconds))]), model="gpt-audio")
    assert counted.tokens == 3 + 4 + tokens
    assert counted.sureness is Sureness.FITTED


def test_a_wav_that_claims_more_than_it_has_is_as_long_as_its_data() -> None:
    """Streamed files have a huge size in their header."""
    raw = wav(2.0)
    place = raw.index(b"data") + 4
    streamed = raw[:place] + b"\xff\xff\xff\xff" + raw[place + 4 :]
    assert chat(user([sound(streamed)])).tokens == 3 + 4 + 20 + 4


def test_an_mp3_that_tells_its_frames_is_fitted() -> None:
    """125 frames of 1152 samples at 48 kHz are three seconds."""
    counted = chat(user([sound(mp3(kbits_index=5, size_bytes=5000, frames=125), "mp3")]))
    assert counted.tokens == 3 + 4 + 30 + 4
    assert counted.sureness is Sureness.FITTED


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)])
def test_another_mp3_is_guessed_by_its_bit_rate(tag: bytes) -> None:
    """64 kbit a second: 16,000 bytes are two seconds; a tag before it is no sound."""
    counted = chat(user([sound(mp3(kbits_index=5, size_bytes=16_004, tag=tag), "mp3")]))
    assert counted.tokens == 3 + 4 + 20 + 4
    assert counted.sureness is Sureness.GUESS
    assert "2 s" in counted.notes[0]


@pytest.mark.parametrize("audio", [None, {}, {"data": 5}, {"data": ""}, {"data": "%%%"}, "x"])
def test_sound_that_makes_no_sense_is_a_guess(audio: Any) -> None:
    """A lower bound."""
    counted = chat(user([{"type": "input_audio", "input_audio": audio}]))
    assert counted.sureness is Sureness.GUESS
    assert counted.tokens >= 7


def test_a_pdf_costs_its_text_and_its_pages_in_chat() -> None:
    """A picture of every page, by today's price."""
    counted = chat(user([file_part(document("The tide comes in.", pages=3))]))
    assert counted.tokens == 3 + 4 + n("The tide comes in.") + 3 * 996
    assert counted.sureness is Sureness.GUESS
    assert "3 pages" in counted.notes[0]


def test_a_pdf_costs_only_its_text_in_responses() -> None:
    """And a few tokens."""
    part = {"type": "input_file", "file_data": data_uri(document("The tide comes in."), "application/pdf")}
    assert responses([user([part])]).tokens == 3 + 4 + n("The tide comes in.") + 15


@pytest.mark.parametrize("packed", [True, False])
def test_the_text_of_a_pdf_is_collected(packed: bool) -> None:
    """With its parentheses, bare and escaped."""
    pdf = read_pdf(bare_base64(data_uri(document(r"a (b) \(c", packed=packed), "application/pdf")))
    assert (pdf.pages, pdf.text) == (1, "a (b) (c")


def test_strings_of_an_array_are_one_line() -> None:
    """As typesetters write them."""
    raw = b"%PDF-1.4 stream\n[(He) -20 (llo)] TJ 0 -10 Td (you) Tj\nendstream"
    assert read_pdf(bare_base64(data_uri(raw, "application/pdf"))).text == "Hello\nyou"


@given(st.binary(max_size=300))
@settings(max_examples=60)
def test_any_bytes_can_be_a_pdf(raw: bytes) -> None:
    """At least one page, and no exception."""
    assert read_pdf(bare_base64(data_uri(b"%PDF-" + raw, "application/pdf"))).pages >= 1


def test_another_file_is_counted_as_its_text() -> None:
    """Plain text, tables, code."""
    counted = chat(user([file_part(b"The tide comes in.", "text/plain")]))
    assert counted.tokens == 3 + 4 + n("The tide comes in.")
    assert counted.sureness is Sureness.GUESS


@pytest.mark.parametrize(
    "file", [{"file_id": "file-1"}, {"file_url": "https://example.org/a.pdf"}, {}, {"file_data": 5}]
)
def test_a_file_that_is_not_here_is_a_lower_bound(file: dict[str, Any]) -> None:
    """In both spellings."""
    for counted in (chat(user([{"type": "file", "file": file}])), responses([user([{"type": "input_file", **file}])])):
        assert counted.tokens == 3 + 4
        assert counted.sureness is Sureness.GUESS


@given(st.binary(max_size=100), st.integers(0, 120), st.integers(0, 60))
def test_bytes_are_read_from_any_place(raw: bytes, place: int, length: int) -> None:
    """As if the whole had been decoded."""
    data = parse_data_uri(data_uri(raw, "text/plain"))
    assert data is not None
    assert data.read(place, length) == raw[place : place + length]
    assert data.size_bytes - len(raw) in (0, 1, 2)
