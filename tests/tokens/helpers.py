"""Short ways to ask for a count, and pictures, sounds and files that are nothing but a header."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

from gpt_batch_api.data import load_encoding
from gpt_batch_api.tokens.estimate import Count, TokenEstimator

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"


def n(text: str, encoding: str = "o200k_base") -> int:
    """Tokens of *text*, straight from the tokeniser."""
    return len(load_encoding(encoding).encode_ordinary(text))


def chat(*messages: Any, model: str = "gpt-4o", **more: Any) -> Count:
    """Count a chat completion request."""
    return TokenEstimator().count(endpoint=CHAT, body={"model": model, "messages": list(messages), **more})


def responses(input_: Any, *, model: str = "gpt-4o", **more: Any) -> Count:
    """Count a Responses request."""
    return TokenEstimator().count(endpoint=RESPONSES, body={"model": model, "input": input_, **more})


def system(text: Any) -> dict[str, Any]:
    return {"role": "system", "content": text}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def function(name: str = "look", *, description: str | None = "Look it up.", **properties: Any) -> dict[str, Any]:
    """A function tool of chat completions whose properties are all needed."""
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def flat(tool: dict[str, Any]) -> dict[str, Any]:
    """The same function as Responses writes it."""
    return {"type": "function", **tool["function"]}


def data_uri(raw: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(raw).decode()}"


def png(width: int, height: int) -> str:
    """A PNG that ends after its header, as a data URI."""
    header = struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    raw = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data_uri(raw, "image/png")


def jpeg(width: int, height: int, *, before: bytes = b"") -> str:
    """A JPEG of a start, the segments *before*, and a frame header, as a data URI."""
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return data_uri(b"\xff\xd8" + before + frame, "image/jpeg")


def segment(marker: int, body: bytes) -> bytes:
    """A JPEG segment."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def gif(width: int, height: int) -> str:
    return data_uri(b"GIF89a" + struct.pack("<HH", width, height) + bytes(20), "image/gif")


def webp(kind: bytes, body: bytes) -> str:
    return data_uri(b"RIFF" + bytes(4) + b"WEBP" + kind + body + bytes(20), "image/webp")


def wav(seconds: float, *, bytes_per_second: int = 16_000) -> bytes:
    """A WAV file of silence."""
    data = bytes(int(seconds * bytes_per_second))
    form = struct.pack("<HHIIHH", 1, 1, bytes_per_second, bytes_per_second, 1, 8)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def picture(url: str, detail: str | None = None) -> dict[str, Any]:
    """An image part of chat completions."""
    return {"type": "image_url", "image_url": {"url": url} | ({"detail": detail} if detail else {})}
