"""What pictures cost, at the published checkpoints and around the limits."""

from __future__ import annotations

import base64
import random
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_batch_api.tokens.estimate import Sureness
from gpt_batch_api.tokens.images import image_size, image_tokens
from gpt_batch_api.tokens.models import resolve
from tests.tokens.helpers import chat, data_uri, gif, jpeg, n, picture, png, responses, segment, user, webp


def tokens(model: str, width: int, height: int, detail: str = "auto") -> int:
    return image_tokens(width, height, detail=detail, rule=resolve(model).images)


class TestTiles:
    """A base and so much a tile of 512 pixels."""

    @pytest.mark.parametrize(
        ("model", "width", "height", "expected"),
        [
            ("gpt-4o", 640, 480, 85 + 2 * 170),
            ("gpt-4o", 3008, 2000, 1105),
            ("gpt-4o", 1024, 1024, 765),
            ("gpt-4o", 2048, 4096, 1105),
            ("gpt-4o-mini", 100, 100, 8500),
            ("gpt-4o-mini", 512, 513, 2833 + 2 * 5667),
            ("gpt-5", 640, 480, 70 + 2 * 140),
            ("gpt-5.1", 1, 1, 210),
            ("o1", 640, 480, 75 + 2 * 150),
            ("o3", 512, 512, 225),
            ("computer-use-preview", 512, 512, 194),
            ("gpt-4-turbo", 512, 512, 255),
        ],
    )
    def test_checkpoints(self, model: str, width: int, height: int, expected: int) -> None:
        """From the documentation and the measurements."""
        assert tokens(model, width, height) == expected

    def test_one_pixel_over_a_tile_is_a_tile_more(self) -> None:
        """At the limit, one below, one above."""
        assert tokens("gpt-4o", 511, 512) == tokens("gpt-4o", 512, 512) == 85 + 170
        assert tokens("gpt-4o", 513, 512) == 85 + 2 * 170

    def test_a_picture_is_never_enlarged(self) -> None:
        """A short side below 768 stays."""
        assert tokens("gpt-4o", 700, 100) == 85 + 2 * 170

    def test_low_detail_is_the_base(self) -> None:
        """Whatever the size."""
        assert tokens("gpt-4o", 4000, 4000, "low") == 85
        assert tokens("gpt-4o-mini", 4000, 4000, "low") == 2833

    def test_unknown_detail_is_billed_as_high(self) -> None:
        """As is `auto`."""
        assert tokens("gpt-4o", 900, 900, "ultra") == tokens("gpt-4o", 900, 900, "high") == tokens("gpt-4o", 900, 900)


class TestPatches:
    """So much a patch of 32 pixels, within a budget."""

    @pytest.mark.parametrize(
        ("model", "width", "height", "expected"),
        [
            ("gpt-4.1-mini", 1024, 1024, 1659 + 1),  # 1024 patches x 1.62 = 1658.88
            ("gpt-4.1-mini", 1800, 2400, 2353 + 1),  # 33 x 44 = 1452 patches, x 1.62 = 2352.24
            ("gpt-4.1-nano", 16, 16, 3 + 1),  # 1 patch x 2.46
            ("o4-mini", 320, 320, 172 + 1),  # 100 patches x 1.72
            ("gpt-5-mini", 100, 100, 20 + 1),  # 16 patches x 1.2 = 19.2
            ("gpt-5-nano", 100, 100, 24 + 1),  # 16 patches x 1.5
            ("gpt-5.4", 1600, 1600, 3000 + 1),  # 50 x 50 = 2500 patches, the budget, x 1.2
            ("gpt-5.6", 3200, 3200, 12000 + 1),  # 10,000 patches, not shrunk
        ],
    )
    def test_checkpoints(self, model: str, width: int, height: int, expected: int) -> None:
        """Rounded up, and one more."""
        assert tokens(model, width, height) == expected

    @given(st.integers(1, 20_000), st.integers(1, 20_000))
    def test_the_budget_is_never_passed(self, width: int, height: int) -> None:
        """However large or long the picture is."""
        assert tokens("gpt-5-mini", width, height) <= 1844 + 1  # 1536 patches x 1.2 = 1843.2
        assert tokens("gpt-5.4", width, height) <= 3000 + 1
        assert tokens("gpt-5.5", width, height) <= 12000 + 1

    def test_one_patch_over_the_budget_is_shrunk(self) -> None:
        """1536 patches are billed as they are; 1 536 and some are fewer."""
        assert tokens("gpt-5-mini", 32 * 32, 32 * 48) == 1844 + 1
        assert tokens("gpt-5-mini", 32 * 32 + 1, 32 * 48) < 1844 + 1

    def test_low_detail_fits_into_512_pixels(self) -> None:
        """256 patches at most."""
        assert tokens("gpt-5.6", 4096, 4096, "low") == 308 + 1  # 256 patches x 1.2 = 307.2
        assert tokens("gpt-5.6", 32, 32, "low") == 2 + 1

    def test_original_detail_has_a_larger_budget(self) -> None:
        """gpt-5.4 has to be asked for it; gpt-5.5 takes it by itself."""
        assert tokens("gpt-5.4", 3200, 3200, "original") == 12000 + 1
        assert tokens("gpt-5.4", 3200, 3200) == tokens("gpt-5.5", 3200, 3200, "high") == 3000 + 1
        assert tokens("gpt-5.5", 3200, 3200) == 12000 + 1

    def test_more_patches_than_the_server_takes_are_said(self) -> None:
        """gpt-5.6 refuses more than 30,000."""
        fits = chat(user([picture(png(32 * 150, 32 * 200))]), model="gpt-5.6")
        assert fits.sureness is Sureness.FITTED
        too_many = chat(user([picture(png(32 * 150 + 1, 32 * 200))]), model="gpt-5.6")
        assert too_many.sureness is Sureness.GUESS
        assert "refused" in too_many.notes[0]


class TestSizes:
    """Width and height, from the header alone."""

    @pytest.mark.parametrize(
        "url",
        [
            png(640, 480),
            gif(640, 480),
            jpeg(640, 480),
            webp(b"VP8X", bytes(8) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")),
            webp(b"VP8L", bytes(4) + b"\x2f" + (639 | 479 << 14).to_bytes(4, "little")),
            webp(b"VP8 ", bytes(4) + bytes(3) + b"\x9d\x01\x2a" + bytes.fromhex("8002e001")),
        ],
        ids=["png", "gif", "jpeg", "webp-extended", "webp-lossless", "webp-lossy"],
    )
    def test_every_format_is_read(self, url: str) -> None:
        """PNG, GIF, JPEG, and three kinds of WebP."""
        assert image_size(url) == (640, 480)

    def test_a_jpeg_with_a_lot_before_its_frame_is_read(self) -> None:
        """Cameras put 100 kB of preview first; restart markers and fillers have no length."""
        before = (
            segment(0xE1, bytes(60_000)) + b"\xff" + segment(0xE2, bytes(60_001)) + b"\xff\x01" + segment(0xDB, b"x")
        )
        assert image_size(jpeg(640, 480, before=before)) == (640, 480)

    def test_a_progressive_jpeg_is_read(self) -> None:
        """Its frame has another marker; a table of the same range is no frame."""
        raw = base64.b64decode(jpeg(640, 480, before=segment(0xC4, bytes(30))).partition(",")[2])
        assert image_size(data_uri(raw.replace(b"\xff\xc0", b"\xff\xc2"), "image/jpeg")) == (640, 480)

    def test_the_mime_type_does_not_matter(self) -> None:
        """Users mislabel; the bytes decide. Parameters before the base64 mark are allowed."""
        assert image_size(png(5, 6).replace("image/png", "image/jpeg")) == (5, 6)
        assert image_size(png(5, 6).replace("image/png", "image/png;name=a.png")) == (5, 6)

    def test_base64_in_lines_and_url_safe_base64_are_read(self) -> None:
        """Both are about."""
        head, _, payload = png(640, 480).partition(",")
        assert image_size(f"{head},{payload[:10]}\n{payload[10:20]}\r\n{payload[20:]}") == (640, 480)
        assert image_size(f"{head},{payload.replace('+', '-').replace('/', '_').rstrip('=')}") == (640, 480)

    @pytest.mark.parametrize(
        "url",
        [
            "https://example.org/cat.png",
            "data:image/png,raw",
            "data:image/png;base64,",
            "data:image/png;base64,!!!!",
            "data:image/svg+xml;base64,PHN2Zz4=",
            data_uri(b"\x89PNG\r\n\x1a\n", "image/png"),
            data_uri(b"\xff\xd8\xff\xe1", "image/jpeg"),
            data_uri(b"\xff\xd8" + bytes(100), "image/jpeg"),
            png(0, 480),
            "",
        ],
    )
    def test_what_is_no_picture_has_no_size(self, url: str) -> None:
        """Remote, empty, cut off, or of another format."""
        assert image_size(url) is None

    @given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF0000WEBPVP8X"]))
    def test_any_bytes_can_be_looked_at(self, raw: bytes, head: bytes) -> None:
        """Nothing raises."""
        size = image_size(data_uri(head + raw, "image/png"))
        assert size is None or min(size) > 0

    def test_a_large_picture_is_not_copied(self) -> None:
        """Thirty megabytes of base64 are looked at in a few bytes."""
        large = png(640, 480) + "A" * 30_000_000
        tracemalloc.start()
        try:
            assert image_size(large) == (640, 480)
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("pixels", [b"", random.Random(1).randbytes(50_000)], ids=["missing", "garbage"])
    @pytest.mark.parametrize(
        "header",
        [
            png(30_000, 30_000),
            gif(30_000, 30_000),
            jpeg(30_000, 30_000),
            webp(b"VP8X", bytes(8) + (29_999).to_bytes(3, "little") * 2),
        ],
        ids=["png", "gif", "jpeg", "webp"],
    )
    def test_pixels_are_never_decoded(self, header: str, pixels: bytes) -> None:
        """What cannot be decoded has a size all the same, and 900 million pixels take no time."""
        kind, _, payload = header.partition(",")
        url = f"{kind},{base64.b64encode(base64.b64decode(payload) + pixels).decode()}"
        began_s = time.process_time()
        assert image_size(url) == (30_000, 30_000)
        assert chat(user([picture(url)])).tokens == 3 + 4 + tokens("gpt-4o", 30_000, 30_000)
        assert time.process_time() - began_s < 0.5


class TestParts:
    """Pictures in messages."""

    def test_a_picture_ends_the_run_of_text(self) -> None:
        """The halves of a word on both sides are two tokens."""
        parts = [{"type": "text", "text": "hel"}, picture(png(1, 1)), {"type": "text", "text": "lo"}]
        counted = chat(user(parts))
        assert counted.tokens == 3 + 4 + n("hel") + 255 + n("lo")
        assert counted.sureness is Sureness.FITTED

    def test_chat_and_responses_name_it_differently(self) -> None:
        """The same picture, the same cost, and its detail."""
        text = {"type": "input_text", "text": "hello"}
        flat = {"type": "input_image", "image_url": png(640, 480), "detail": "low"}
        assert responses([user([text, flat])]).tokens == chat(user([text, picture(png(640, 480), "low")])).tokens
        assert responses([user([text, flat])]).tokens == 3 + 4 + 1 + 85

    def test_a_picture_by_url_is_assumed_and_said(self) -> None:
        """Nothing is fetched. Equal notes are said once."""
        remote = picture("https://example.org/cat.png")
        counted = chat(user([remote, remote]))
        assert counted.tokens == 3 + 4 + 2 * 1105
        assert counted.sureness is Sureness.GUESS
        assert counted.notes == ("image by URL: size unknown, assumed 1105 tokens",)

    def test_a_picture_by_url_in_low_detail_has_a_known_cost(self) -> None:
        """The base does not depend on the size."""
        counted = chat(user([picture("https://example.org/cat.png", "low")]))
        assert counted.tokens == 3 + 4 + 85
        assert counted.sureness is Sureness.FITTED

    @pytest.mark.parametrize(
        "part", [{}, {"image_url": None}, {"image_url": 5}, {"image_url": {"url": []}}, {"file_id": "f"}]
    )
    def test_a_picture_without_url_is_assumed_too(self, part: dict[str, object]) -> None:
        """By file id, or nonsense."""
        assert chat(user([{"type": "image_url", **part}])).tokens == 3 + 4 + 1105
