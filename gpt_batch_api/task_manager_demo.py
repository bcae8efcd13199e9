"""Two complete tasks: `python -m gpt_batch_api.task_manager_demo --task char_codes --sandbox`

`char_codes`         a record about each printable character of some Unicode blocks; bad records are asked again
`utterance_emotion`  the emotion of each of some utterances; opinions are asked for until a majority is sure

Read them as examples of a task: a schema, a prompt, a loop, and what to do with an answer.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, Field

from gpt_batch_api.cli.options import add_settings, make_parser, settings_from_args
from gpt_batch_api.task_manager import (
    DataclassListOutputFile,
    DataclassOutputFile,
    GPTRequest,
    OpinionPoll,
    Result,
    Sample,
    TaskManager,
    exit_code,
)
from gpt_batch_api.utils import configure_logging

# ---------------------------------------------------------------- char_codes

BLOCKS = {
    "Basic Latin": (0x0020, 0x007E),
    "Latin-1 Supplement": (0x00A0, 0x00FF),
    "Latin Extended-A": (0x0100, 0x017F),
    "Latin Extended-B": (0x0180, 0x024F),
    "IPA Extensions": (0x0250, 0x02AF),
    "Greek and Coptic": (0x0370, 0x03FF),
    "Cyrillic": (0x0400, 0x04FF),
}

CharType = Literal[
    "uppercase letter",
    "lowercase letter",
    "other letter",
    "digit",
    "punctuation",
    "currency symbol",
    "mathematical symbol",
    "modifier or diacritic",
    "space",
    "other symbol",
]


class CharInfo(BaseModel):
    """What the model says about one character."""

    character: str = Field(description="The character itself, nothing else.")
    type: CharType
    description: str = Field(description="What the character is and where it is used, in one sentence.")
    sample_sentence: str = Field(description="A sentence that contains the character at least twice.")


@dataclass
class CharRecord:
    """A row of the output."""

    codepoint: str
    block: str
    name: str
    character: str
    type: str
    description: str
    sample_sentence: str


@dataclass
class CharCodes:
    """The output document."""

    model: str
    characters: list[CharRecord]


class CharCodesFile(DataclassOutputFile):
    Dataclass = CharCodes


def printable_characters() -> Iterable[tuple[str, str]]:
    """(block, character) of all printable characters of the blocks."""
    for block, (first, last) in BLOCKS.items():
        for code in range(first, last + 1):
            if chr(code).isprintable():
                yield block, chr(code)


class CharCodesTask(TaskManager):
    """Describe every printable character of the Latin, IPA, Greek and Cyrillic blocks."""

    name = "char_codes"
    defaults = {"model": "gpt-4o-mini-2024-07-18", "temperature": 0.2, "top_p": 0.6, "max_completion_tokens": 384}  # noqa: RUF012
    output_file = CharCodesFile

    def generate_requests(self) -> Iterable[GPTRequest]:
        for block, character in printable_characters():
            yield GPTRequest(f"U+{ord(character):04X}", self._question(character), meta={"block": block})

    def _question(self, character: str) -> Mapping[str, Any]:
        name = unicodedata.name(character, "unnamed")
        return {
            **self.meta,
            "messages": [
                {"role": "system", "content": "You are an expert on Unicode, typography and writing systems."},
                {
                    "role": "user",
                    "content": f'Describe this character: "{character}" (U+{ord(character):04X} {name})\n'
                    "Use the character itself in the sample sentence, at least twice.",
                },
            ],
            "response_format": CharInfo,
        }

    def process_result(self, result: Result, sample: Sample) -> None:
        if not result.ok:
            return
        character, info = chr(int(sample.key[2:], 16)), result.value
        if info.character != character:
            result.retry(f"the record is about {info.character!r}, not {character!r}")
        elif info.sample_sentence.count(character) < 2:
            result.retry(f"the sample sentence does not contain {character!r} twice")
        else:
            name = unicodedata.name(character, "unnamed")
            sample.emit(CharRecord(sample.key, result.meta["block"], name, **info.model_dump()))

    def output_header(self) -> Mapping[str, Any]:
        return {"model": self.meta.get("model", "")}


# ---------------------------------------------------------------- utterance_emotion

Emotion = Literal["anger", "disgust", "sadness", "joy", "neutral", "surprise", "fear"]

UTTERANCES = (
    "You told everybody what I trusted you with? Get out of my sight.",
    "I have asked you four times to turn that music down!",
    "They charged me twice and then hung up on me.",
    "Who parked across my driveway again?",
    "Don't you dare blame my sister for your mistake.",
    "I worked all weekend, and he put his own name on it.",
    "Stop laughing, this is not funny at all!",
    "There is a hair baked into the crust of this pie.",
    "He wiped his nose on the tablecloth and went on eating.",
    "The whole fridge smells of rotten fish.",
    "How can anyone be proud of cheating an old man?",
    "Something slimy just moved in the sink, ugh.",
    "I will never touch that doorknob again.",
    "They sold him spoiled meat and laughed about it.",
    "She left her key on the table, and I knew it was over.",
    "I still lay a second plate for him sometimes.",
    "We had to let the old dog go this morning.",
    "Nobody remembered that today is my birthday.",
    "I wish I had called her back while I could.",
    "The letter begins with 'we regret to inform you'.",
    "Grandfather's workshop is just an empty room now.",
    "I got the job! I really got it!",
    "Look, she is taking her very first steps!",
    "We finally have the house to ourselves, let's dance.",
    "This is the best soup I have eaten in my life.",
    "The doctors say that he is completely well again!",
    "You kept the seat beside you for me? You are wonderful.",
    "It snowed overnight, and school is closed, hooray!",
    "The meeting was moved to half past three.",
    "Please put the blue folders on the lower shelf.",
    "The train stops here every twenty minutes.",
    "I usually take the stairs to the second floor.",
    "This form has to be signed on both pages.",
    "We are out of paper, I will order some tomorrow.",
    "The library is closed on Mondays.",
    "Wait, you two know each other?",
    "I opened the drawer, and there was my lost ring!",
    "He has a twin? In all these years you never said a word.",
    "You cooked all this yourself? I can't believe it.",
    "The quiet boy from the back row won the whole thing?",
    "What do you mean, the office has been gone for a year?",
    "Oh! I did not hear you come in.",
    "Somebody has been standing outside our window for an hour.",
    "Hold my hand, I don't think this bridge is safe.",
    "The brakes don't answer, what do I do?",
    "Don't go down there alone, please.",
    "I keep dreaming that the water comes up the stairs.",
    "If the test comes back positive, I don't know what I'll do.",
    "Did you hear that? That was inside the house.",
)


class Judgement(BaseModel):
    """What the model says about one utterance."""

    emotion: Emotion


@dataclass
class UtteranceEmotion:
    """A row of the output."""

    utterance: str
    emotion: str
    confidence: float
    scores: dict[str, float]
    opinions: int


class UtteranceEmotionFile(DataclassListOutputFile):
    Dataclass = UtteranceEmotion


class UtteranceEmotionTask(TaskManager):
    """Find the emotion of each utterance, by the majority of several opinions."""

    name = "utterance_emotion"
    defaults = {  # noqa: RUF012
        "model": "gpt-4o-mini-2024-07-18",
        "temperature": 1.0,
        "top_p": 1.0,
        "max_completion_tokens": 32,
        "opinions_min": 3,
        "opinions_max": 6,
        "confidence": 0.7,
    }
    output_file = UtteranceEmotionFile

    def on_enter(self) -> None:
        self.poll = OpinionPoll(self.meta["opinions_min"], self.meta["opinions_max"], self.meta["confidence"])

    def generate_requests(self) -> Iterable[GPTRequest]:
        for index, utterance in enumerate(UTTERANCES):
            yield from self.poll.requests(self._question(f"utterance_{index:03}", utterance))

    def _question(self, key: str, utterance: str) -> GPTRequest:
        payload = {
            **{name: self.meta[name] for name in ("model", "temperature", "top_p", "max_completion_tokens")},
            "messages": [
                {"role": "system", "content": "You judge the emotion of a speaker from a single utterance."},
                {
                    "role": "user",
                    "content": f'Which one emotion does the speaker of this utterance show? "{utterance}"',
                },
            ],
            "response_format": Judgement,
        }
        return GPTRequest(key, payload, meta={"utterance": utterance})

    def process_result(self, result: Result, sample: Sample) -> None:
        utterance = result.meta["utterance"]
        opinion = result.value.emotion if result.ok else None
        majority = self.poll.cast(sample, result, opinion, question=self._question(sample.key, utterance))
        if majority is None or majority.opinion is None:
            return
        total = sum(majority.votes.values())
        scores = {emotion: round(votes / total, 4) for emotion, votes in majority.votes.items()}
        sample.emit(UtteranceEmotion(utterance, majority.opinion, round(majority.confidence, 4), scores, total))


# ---------------------------------------------------------------- the command

TASKS: dict[str, type[TaskManager]] = {str(task.name): task for task in (CharCodesTask, UtteranceEmotionTask)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the demo tasks; the exit code."""
    configure_logging()
    return exit_code(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    parser = make_parser(
        prog="python -m gpt_batch_api.task_manager_demo",
        description="Demo tasks for gpt_batch_api. Try them without a key: --task utterance_emotion --sandbox",
    )
    add_settings(parser)
    settings = settings_from_args(parser.parse_args(argv))
    name = settings.script.task
    if name not in TASKS:
        parser.error(f"--task is {name!r}, but must be one of: {', '.join(TASKS)}")
    if settings.script.chat_endpoint is not None:
        settings = settings.replace(endpoint=settings.script.chat_endpoint)
    return TASKS[name](settings).main()


if __name__ == "__main__":
    raise SystemExit(main())
