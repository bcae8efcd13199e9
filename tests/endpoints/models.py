"""Pydantic models of many shapes; at the top of a module, so that they can be found again."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, HttpUrl

T = TypeVar("T")


class Kind(StrEnum):
    LETTER = "letter"
    MARK = "mark"


class Character(BaseModel):
    """A plain answer with one field of each simple kind."""

    character: str
    code: int
    weight: float
    usual: bool
    kind: Kind
    since: date
    remark: str | None = None
    samples: list[str]


class Cat(BaseModel):
    species: Literal["cat"]
    lives: int


class Dog(BaseModel):
    species: Literal["dog"]
    tricks: list[str]


class Owner(BaseModel):
    """One of two, told apart by a field: pydantic writes oneOf."""

    pet: Annotated[Cat | Dog, Field(discriminator="species")]


class Node(BaseModel):
    """Recursion from the root."""

    name: str
    children: list[Node]


class Person(BaseModel):
    name: str
    friends: list[Person]


class Village(BaseModel):
    """Recursion below the root, and one definition used twice."""

    mayor: Person
    people: list[Person]


class Strictly(BaseModel):
    """Constraints that only pydantic checks, beside some that the server checks too."""

    name: Annotated[str, Field(min_length=2, max_length=5, examples=["Ann"])]
    age: Annotated[int, Field(ge=0, le=130)]
    tags: set[str]
    many: Annotated[list[int], Field(min_length=1, max_length=3)]
    tone: str = "plain"


class Awkward(BaseModel):
    """Fields that are called like keywords of JSON Schema."""

    default: str
    properties: int
    enum: list[str]
    oneOf: bool  # noqa: N815
    minLength: int  # noqa: N815


class Outer:
    class Inner(BaseModel):
        """Nested in a class, which a restarted process finds again."""

        x: int


class Nothing(BaseModel):
    """No fields at all."""


class Box(BaseModel, Generic[T]):
    content: T


NumberBox = Box[int]


class Ähnlich(BaseModel):
    """A name that is not plain ASCII."""

    x: int


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: int


class WithDict(BaseModel):
    counts: dict[str, int]


class WithAny(BaseModel):
    thing: Any


class WithPlainList(BaseModel):
    things: list  # type: ignore[type-arg]


class WithTuple(BaseModel):
    pair: tuple[int, str]


class Pair(NamedTuple):
    a: int
    b: str


class WithNamedTuple(BaseModel):
    pair: Pair


class WithUrl(BaseModel):
    link: HttpUrl


class DeepDict(BaseModel):
    """The trouble lies further down."""

    person: Person
    boxes: list[WithDict]


class NoModel:
    """Not derived from BaseModel."""


ANSWERS = [Character, Owner, Node, Village, Strictly, Awkward, Outer.Inner, NumberBox, Ähnlich]
"""All that can be asked for."""
