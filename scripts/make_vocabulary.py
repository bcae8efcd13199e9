"""Make the packaged vocabularies from the ranks that js-tiktoken publishes (MIT).

    npm pack js-tiktoken && tar xzf js-tiktoken-*.tgz
    python -m scripts.make_vocabulary package/dist/ranks

The result is byte for byte OpenAI's own rank file (its SHA-256 is checked), compressed with xz.
"""

import base64
import hashlib
import json
import lzma
import sys
from pathlib import Path

from gpt_batch_api.data import VOCABULARIES, data_path


def official_rank_file(javascript: str) -> bytes:
    """Turn js-tiktoken's module text into the lines `base64 rank` that OpenAI publishes."""
    module = json.JSONDecoder().raw_decode(javascript, javascript.index("{"))[0]
    lines: list[bytes] = []
    for run in module["bpe_ranks"].splitlines():
        _, first_rank, *tokens = run.split(" ")
        for rank, token in enumerate(tokens, start=int(first_rank)):
            base64.b64decode(token, validate=True)
            lines.append(b"%s %d\n" % (token.encode(), rank))
    return b"".join(lines)


def main(ranks: Path) -> None:
    for name, vocabulary in VOCABULARIES.items():
        raw = official_rank_file((ranks / f"{name}.cjs").read_text())
        if hashlib.sha256(raw).hexdigest() != vocabulary.sha256:
            sys.exit(f"{name}: the ranks in {ranks} are not the published ones")
        target = data_path(f"{name}.tiktoken.xz")
        target.write_bytes(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME))
        print(f"{target.name}: {len(raw):,} bytes, {target.stat().st_size:,} compressed")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
