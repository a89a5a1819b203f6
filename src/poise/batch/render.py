"""Messages to token ids and trained mask: one renderer, one pass, no text searched.

    template    <|user|>\n…</s>\n<|assistant|>\n…</s>\n
    rendered    <|user|>\nhi</s>\n<|assistant|>\n ⟦hello</s>⟧ \n       ⟦ ⟧ trained

The template is first rendered with every content hidden behind a placeholder, so what the template writes and what
a message says are never confused; then the contents are put back and the text must equal the template's own rendering
of the real messages. An answer is trained from where inference starts generating up to and with its stop token, and
only if both are there. Each stretch is tokenised alone, as inference tokenises a prompt and then generates.

A row may name a template of its own; the tokenizer must have been prepared for it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain, islice
from typing import Literal, cast

import numpy as np

from poise.batch.row import Row, Segment
from poise.batch.tokens import (
    TEMPLATE_ERRORS,
    PreparedTokenizer,
    adds_bos,
    control_pattern,
    control_tokens,
    render_text,
)
from poise.errors import DataError
from poise.examples import (
    OWN_TEMPLATE,
    Conversation,
    Document,
    Example,
    LabeledConversation,
    Message,
    PreferencePair,
    RankedAnswers,
    template_of,
)

FIRST_PLACEHOLDER = 0xF0000
PLACEHOLDER = re.compile("([\U000f0000-\U000ffffd])")
"""Private-use characters, one per content."""
REASONING_TAG = re.compile(r"(</?think>)")
"""What some templates look for in an answer, to drop the reasoning of earlier turns."""
EXAMPLES_AT_ONCE = 512
"""Enough to keep a fast tokenizer's threads busy."""
TOO_LONG = "too long"


@dataclass(frozen=True)
class Refusal:
    """Why an Example gives no Row: a short phrase that can be counted, and what was seen."""

    reason: str
    evidence: str = ""
    size: tuple[int, int] | None = field(default=None, compare=False)
    """Tokens of its longest sequence, and those that would be trained, of a row that is too long."""


class Renderer:
    """Turn Examples into Rows under one prepared tokenizer; only the template decides what the text looks like.

    An Example is rendered in the template that it names; a prompt, and an Example that names none, in the main one.
    """

    def __init__(
        self,
        prepared: PreparedTokenizer,
        max_length: int | None = None,
        max_prompt_length: int | None = None,
        overlong: Literal["drop", "truncate_prompt"] = "drop",
    ) -> None:
        self.prepared = prepared
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self.overlong = overlong
        self._others = {
            name: Renderer(other, max_length, max_prompt_length, overlong) for name, other in prepared.others.items()
        }
        self._tokenizer = prepared.tokenizer
        self._stop_id = prepared.stop_ids[0]
        self._stops = set(cast("list[str]", self._tokenizer.convert_ids_to_tokens(list(prepared.stop_ids))))
        self._control = control_pattern(self._tokenizer)
        self._control_ids = set(control_tokens(self._tokenizer).values()) - {cast(int, self._tokenizer.unk_token_id)}
        self._bos = (cast(int, self._tokenizer.bos_token_id),) if adds_bos(self._tokenizer) else ()
        self._begins_with_space = self._encode(["a"])["a"] != self._continue(
            self._encode(["\n", "\na", "a"]), "\n", "a"
        )
        self._layout = lru_cache(maxsize=4096)(self._lay_out)
        self._real_text = lru_cache(maxsize=1024)(self._render)

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids that inference feeds for `messages`; DataError where the template refuses them."""
        try:
            passages = self._write(tuple(messages), generation=True)
        except _RefusedError as refused:
            raise DataError(f"{refused.refusal.reason}: {refused.refusal.evidence}") from None
        return self._ids(passages, "", self._encode(_texts(self._units(passages, ""))))[0]

    def row(self, example: Example) -> Row | Refusal:
        """Render one Example."""
        return next(self.rows([example]))

    def rows(self, examples: Iterable[Example]) -> Iterator[Row | Refusal]:
        """Render Examples in order, one result each, tokenising many at once."""
        iterator = iter(examples)
        while batch := list(islice(iterator, EXAMPLES_AT_ONCE)):
            yield from self._each_in_its_template(batch)

    def _each_in_its_template(self, batch: Sequence[Example]) -> "list[Row | Refusal]":
        named = [template_of(example) for example in batch]
        found: dict[int, Row | Refusal] = {}
        for name in dict.fromkeys(named):
            places = [place for place, each in enumerate(named) if each == name]
            rendered = self._in_template(name)._render_batch([batch[place] for place in places])
            found |= dict(zip(places, rendered, strict=True))
        return [found[place] for place in range(len(batch))]

    def _in_template(self, name: str) -> "Renderer":
        if name in ("", OWN_TEMPLATE, self.prepared.template_name):
            return self
        if name not in self._others:
            raise DataError(f"a row is to be rendered in {name!r}, which this tokenizer was not prepared for")
        return self._others[name]

    def _render_batch(self, batch: Sequence[Example]) -> Iterator[Row | Refusal]:
        drafts = [self._draft(example) for example in batch]
        written = [draft for draft in drafts if not isinstance(draft, Refusal)]
        encoded = self._encode(chain.from_iterable(self._draft_texts(draft) for draft in written))
        for example, draft in zip(batch, drafts, strict=True):
            yield draft if isinstance(draft, Refusal) else self._fit(example, draft, encoded)

    # From an Example to passages of text -----------------------------------------------------------------------------

    def _draft(self, example: Example) -> "_Draft | Refusal":
        try:
            return self._segments(example)
        except _RefusedError as refused:
            return refused.refusal

    def _segments(self, example: Example) -> "_Draft":
        """Write the text of each segment of an Example, in the order of `Row.segments`."""
        match example:
            case Document(text=text):
                return _Draft((self._document(text),))
            case Conversation(messages=messages, trained=trained):
                return _Draft((self._write(messages, _last_answer(messages) if trained == "last" else 0),))
            case LabeledConversation(messages=messages, prompt=prompt):
                return _Draft(self._answers(prompt, [messages[len(prompt) :]]))
            case PreferencePair(prompt=prompt, chosen=chosen, rejected=rejected):
                return _Draft(self._answers(prompt, [chosen, rejected]))
            case RankedAnswers(prompt=prompt):
                return _Draft(self._answers(prompt, [answer for answer, _ in _best_first(example)]))

    def _document(self, text: str) -> "tuple[_Passage, ...]":
        if not text.strip():
            raise _RefusedError("empty document")
        return (_Passage(("", text, ""), trained=True, before=self._bos, after=(self._stop_id,)),)

    def _answers(
        self, prompt: tuple[Message, ...], answers: "list[tuple[Message, ...]]"
    ) -> "tuple[tuple[_Passage, ...], ...]":
        """Write a prompt and each of its continuations."""
        if not prompt:
            raise _RefusedError("empty prompt", "nothing is asked")
        asked = self._write(prompt, generation=True)
        segments = [asked]
        for answer in answers:
            if not answer or answer[0].role != "assistant":
                raise _RefusedError("the completion does not begin with an assistant turn")
            first, *rest = self._write(prompt + answer, len(prompt))
            if first.text != asked[0].text:
                raise _RefusedError("the prompt reads otherwise before its answer", repr(first.text[-80:]))
            segments.append(tuple(rest))
        return tuple(segments)

    def _write(
        self, messages: tuple[Message, ...], prompt_messages: int = 0, generation: bool = False
    ) -> "tuple[_Passage, ...]":
        """Lay out the hidden messages, put their contents back and compare with the template's own rendering."""
        if not messages:
            raise _RefusedError("no messages")
        if not generation:
            _refuse_blank_answers(messages, prompt_messages)
        real = self._real_text(messages, generation)
        for keep_tags in (False, True):
            hidden, contents = _hide(messages, keep_tags)
            layout = self._layout(hidden, prompt_messages, generation)
            passages = tuple(passage.filled(contents) for passage in layout.passages)
            if "".join(passage.text for passage in passages) == (real[: -layout.cut] if layout.cut else real):
                return passages
        raise _RefusedError("the template rewrites a message", _first_difference(passages, real))

    def _render(self, messages: tuple[Message, ...], generation: bool) -> str:
        try:
            return render_text(self._tokenizer, messages, generation)
        except TEMPLATE_ERRORS as error:
            raise _RefusedError("the template refuses it", str(error)) from error

    def _lay_out(self, hidden: tuple[Message, ...], prompt_messages: int, generation: bool) -> "_Layout":
        """Cut the rendering of hidden messages into passages at the boundaries of prompt and trained turns."""
        text = self._render(hidden, generation)
        _refuse_dropped_messages(hidden, text)
        if generation:
            return _Layout((self._passage(text, trained=False),))
        start = self._prompt_end(hidden, prompt_messages, text) if prompt_messages else 0
        if start is None:
            raise _RefusedError("the prompt reads otherwise before its answer")
        passages = [self._passage(text[:start], trained=False)] if start else []
        for index in range(prompt_messages, len(hidden)):
            span = self._trained_span(hidden, index, text) if hidden[index].role == "assistant" else None
            if span is None:
                continue
            begin, end, stops = span
            passages.append(self._passage(text[start:begin], trained=False))
            passages.append(self._passage(text[begin:end], trained=True, after=() if stops else (self._stop_id,)))
            start = end
        if not passages or not passages[-1].trained:
            raise _RefusedError(
                "no trained tokens", "no assistant turn ends in a stop token" if passages else "no answer"
            )
        if passages[-1].after:
            return _Layout(tuple(passages), cut=len(text) - start)
        return _Layout((*passages, self._passage(text[start:], trained=False)))

    def _trained_span(self, hidden: tuple[Message, ...], index: int, text: str) -> tuple[int, int, bool] | None:
        """Return begin and end of an assistant turn in `text`, and whether it ends in a stop token there.

        None for a turn that inference could not have produced: it does not begin with the generation prompt, or it
        ends in nothing that stops generation although other turns follow.
        """
        begin = self._prompt_end(hidden, index, text)
        marks = PLACEHOLDER.findall(hidden[index].content)
        if begin is None or not marks:
            return None
        content_end = max(map(text.rfind, marks)) + 1
        following = PLACEHOLDER.search(text, content_end)
        control = self._control.search(text, content_end, following.start() if following else len(text))
        if control and control.group() in self._stops:
            return begin, control.end(), True
        return (begin, content_end, False) if index == len(hidden) - 1 and control is None else None

    def _prompt_end(self, hidden: tuple[Message, ...], messages: int, text: str) -> int | None:
        """Return where inference, fed the first messages, starts to generate in `text`; None if it reads otherwise."""
        if not messages:
            return None
        prompt = self._render(hidden[:messages], generation=True)
        return len(prompt) if text.startswith(prompt) else None

    def _passage(self, text: str, trained: bool, after: tuple[int, ...] = ()) -> "_Passage":
        return _Passage(tuple(PLACEHOLDER.split(text)), trained, after=after, controls=self._control.findall(text))

    # From passages to tokens -----------------------------------------------------------------------------------------

    def _fit(self, example: Example, draft: "_Draft", encoded: "_Encoded") -> Row | Refusal:
        """Tokenise a draft, and where it is too long try again without its oldest turns."""
        row = self._row(example, draft, encoded)
        if not _is_too_long(row) or self.overlong == "drop" or isinstance(example, Document):
            return row
        for shorter in _without_oldest_turns(example):
            draft_or_refusal = self._draft(shorter)
            if isinstance(draft_or_refusal, Refusal):
                continue
            row = self._row(example, draft_or_refusal, self._encode(self._draft_texts(draft_or_refusal)))
            if not _is_too_long(row):
                return row
        return replace(cast(Refusal, row), reason="too long even without its history")

    def _row(self, example: Example, draft: "_Draft", encoded: "_Encoded") -> Row | Refusal:
        segments: list[Segment] = []
        before = ""
        try:
            for index, passages in enumerate(draft.segments):
                ids, trained = self._ids(passages, before, encoded)
                segments.append(_segment(ids, trained, parent=0 if index else -1))
                before = before or "".join(passage.text for passage in passages)
        except _RefusedError as refused:
            return refused.refusal
        place = example.place or example.source
        if isinstance(example, Document):
            return Row(example.id, tuple(_chunks(segments[0], self.max_length)), place)
        row = Row(example.id, _marked(example, segments), place)
        return self._refusal(example, row) or row

    def _refusal(self, example: Example, row: Row) -> Refusal | None:
        """Judge a finished row: lengths, and whether there is something to learn from it."""
        longest = max(row.sequence_lengths())
        prompt = int(np.argmax(np.concatenate([segment.trained for segment in row.segments])))
        if self.max_prompt_length is not None and prompt > self.max_prompt_length:
            evidence = f"prompt of {prompt:,} tokens > {self.max_prompt_length:,}"
            return Refusal(TOO_LONG, evidence, (longest, row.trained_tokens))
        if self.max_length is not None and longest > self.max_length:
            evidence = f"{longest:,} tokens > {self.max_length:,}"
            return Refusal(TOO_LONG, evidence, (longest, row.trained_tokens))
        if isinstance(example, PreferencePair) and np.array_equal(row.segments[1].ids, row.segments[2].ids):
            return Refusal("chosen equals rejected", f"the same {len(row.segments[1]):,} tokens")
        if isinstance(example, RankedAnswers) and not row.pairs:
            told_apart = f"{len(row.segments) - 1} of {len(example.answers)} answers differ"
            return Refusal("no answer ranks above another", told_apart)
        return None

    def _ids(self, passages: "tuple[_Passage, ...]", before: str, encoded: "_Encoded") -> tuple[list[int], list[bool]]:
        """Join the ids of passages that follow the text `before`."""
        ids: list[int] = []
        trained: list[bool] = []
        for passage, units in zip(passages, self._units(passages, before), strict=True):
            own = [
                *passage.before,
                *chain.from_iterable(self._continue(encoded, *unit) for unit in units),
                *passage.after,
            ]
            if len(units) > 1:
                self._refuse_forged_controls(passage, own)
            ids += own
            trained += [passage.trained] * len(own)
        doubled = _doubled_bos(ids, cast("int | None", self._tokenizer.bos_token_id)) if not before else 0
        return ids[doubled:], trained[doubled:]

    def _refuse_forged_controls(self, passage: "_Passage", ids: list[int]) -> None:
        written = len(passage.controls) + len(passage.before) + len(passage.after)
        if sum(index in self._control_ids for index in ids) != written:
            raise _RefusedError("a control token stands in the text", repr(passage.text[:80]))

    def _units(self, passages: "tuple[_Passage, ...]", before: str) -> "list[list[tuple[str, str]]]":
        """Cut each passage into strings to tokenise, each with the text that must stand before it meanwhile.

        A passage is one string unless a content holds the text of a control token: such a text is cut after its first
        character, so that neither half is the token. Tokenizers that put a space before every string (Llama 2) get
        an anchor to put it before: the control token just written, or a newline.
        """
        units: list[list[tuple[str, str]]] = []
        for passage in passages:
            own: list[tuple[str, str]] = []
            for text in self._cut_out_controls(passage):
                own.append((self._anchor(before), text))
                before = text
            units.append(own)
        return units

    def _anchor(self, before: str) -> str:
        if not before or not self._begins_with_space:
            return ""
        last = self._control.findall(before)[-1:]
        return last[0] if last and before.endswith(last[0]) else "\n"

    def _cut_out_controls(self, passage: "_Passage") -> list[str]:
        text = passage.text
        if not text:
            return []
        if self._control.findall(text) == passage.controls:
            return [text]
        cuts, position = [0], 0
        while match := self._control.search(text, position):
            if passage.is_content(*match.span()):
                position = match.start() + 1
                cuts.append(position)
            else:
                position = match.end()
        return [text[start:end] for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True) if start < end]

    def _draft_texts(self, draft: "_Draft") -> Iterator[str]:
        before = ""
        for passages in draft.segments:
            yield from _texts(self._units(passages, before))
            before = before or "".join(passage.text for passage in passages)

    def _encode(self, texts: Iterable[str]) -> "_Encoded":
        """Tokenise each distinct text once."""
        distinct = list(dict.fromkeys(texts))
        if not distinct:
            return {}
        ids = self._tokenizer(distinct, add_special_tokens=False, return_attention_mask=False, verbose=False)
        return dict(zip(distinct, cast("list[list[int]]", ids["input_ids"]), strict=True))

    def _continue(self, encoded: "_Encoded", anchor: str, text: str) -> list[int]:
        """Return the ids of text as they are after the anchor."""
        if not anchor:
            return encoded[text]
        start, ids = encoded[anchor], encoded[anchor + text]
        return ids[len(start) :] if ids[: len(start)] == start else self._encode([text])[text]


_Encoded = dict[str, list[int]]


class _RefusedError(Exception):
    def __init__(self, reason: str, evidence: str = "") -> None:
        super().__init__(reason)
        self.refusal = Refusal(reason, evidence)


@dataclass(frozen=True)
class _Passage:
    """A stretch of rendered text that is trained as a whole or not at all."""

    parts: tuple[str, ...]
    """What the template writes and what a message says, in turn, the template first."""
    trained: bool
    before: tuple[int, ...] = ()
    """Ids before the text: the bos of a document."""
    after: tuple[int, ...] = ()
    """Ids after the text: a stop token that the template does not write."""
    controls: Sequence[str] = ()
    """The control tokens that the template writes here."""

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def filled(self, contents: Sequence[str]) -> "_Passage":
        """Put the contents in the place of their placeholders."""
        parts = list(self.parts)
        parts[1::2] = [contents[ord(mark) - FIRST_PLACEHOLDER] for mark in parts[1::2]]
        return replace(self, parts=tuple(parts))

    def is_content(self, start: int, end: int) -> bool:
        """Whether any character of text[start:end] comes from a message."""
        position = 0
        for index, part in enumerate(self.parts):
            if index % 2 and position < end and start < position + len(part):
                return True
            position += len(part)
        return False


@dataclass(frozen=True)
class _Layout:
    passages: tuple[_Passage, ...]
    cut: int = 0
    """Characters the template writes after the last answer that are left out for the stop token."""


@dataclass(frozen=True)
class _Draft:
    segments: tuple[tuple[_Passage, ...], ...]
    """The first has no parent; the others continue it."""


def _hide(messages: tuple[Message, ...], keep_tags: bool) -> tuple[tuple[Message, ...], list[str]]:
    """Put a placeholder for every content; the white space around it stays, for templates that strip it.

    With `keep_tags` the reasoning tags of answers stay too, for templates that look for them.
    """
    contents: list[str] = []

    def hide(text: str) -> str:
        core = text.strip()
        if not core:
            return text
        contents.append(core)
        start = len(text) - len(text.lstrip())
        return text[:start] + chr(FIRST_PLACEHOLDER + len(contents) - 1) + text[start + len(core) :]

    def hide_between_tags(text: str) -> str:
        pieces = REASONING_TAG.split(text)
        pieces[::2] = map(hide, pieces[::2])
        return "".join(pieces)

    hidden = [
        Message(
            message.role, (hide_between_tags if keep_tags and message.role == "assistant" else hide)(message.content)
        )
        for message in messages
    ]
    return tuple(hidden), contents


def _refuse_blank_answers(messages: Sequence[Message], prompt_messages: int) -> None:
    for index, message in enumerate(messages):
        if index >= prompt_messages and message.role == "assistant" and not message.content.strip():
            raise _RefusedError("empty completion", f"turn {index + 1} says nothing")


def _refuse_dropped_messages(hidden: Sequence[Message], text: str) -> None:
    for index, message in enumerate(hidden):
        marks = PLACEHOLDER.findall(message.content)
        if marks and not any(mark in text for mark in marks):
            raise _RefusedError("the template leaves out a message", f"turn {index + 1}, {message.role}")


def _first_difference(passages: Sequence[_Passage], real: str) -> str:
    ours = "".join(passage.text for passage in passages)
    pairs = enumerate(zip(ours, real, strict=False))
    same = next((i for i, (a, b) in pairs if a != b), min(len(ours), len(real)))
    return f"expected {ours[same : same + 40]!r}, rendered {real[same : same + 40]!r}"


def _texts(units: Iterable[Iterable[tuple[str, str]]]) -> Iterator[str]:
    for anchor, text in chain.from_iterable(units):
        yield anchor + text
        if anchor:
            yield anchor


def _best_first(example: RankedAnswers) -> list[tuple[tuple[Message, ...], int]]:
    """Return (answer, rank) without those that say nothing; of equal answers the best stays."""
    kept: dict[tuple[Message, ...], int] = {}
    for rank, answer in sorted(zip(example.ranks, example.answers, strict=True), key=lambda each: each[0]):
        if any(message.role == "assistant" and message.content.strip() for message in answer):
            kept.setdefault(answer, rank)
    return list(kept.items())


def _ranked(example: RankedAnswers, answers: Sequence[Segment]) -> list[Segment]:
    """Give each answer its rank; of those that became equal by rendering the best stays."""
    kept: dict[bytes, Segment] = {}
    for answer, (_, rank) in zip(answers, _best_first(example), strict=True):
        kept.setdefault(answer.ids.tobytes(), replace(answer, rank=rank))
    return list(kept.values())


def _marked(example: Example, segments: list[Segment]) -> tuple[Segment, ...]:
    """Say of each answer what it is to its prompt; those of a pair have both a rank and a label."""
    if isinstance(example, PreferencePair):
        chosen, rejected = segments[1:]
        return (
            segments[0],
            replace(chosen, rank=0, label="desirable"),
            replace(rejected, rank=1, label="undesirable"),
        )
    if isinstance(example, RankedAnswers):
        return (segments[0], *_ranked(example, segments[1:]))
    if isinstance(example, LabeledConversation):
        label = "desirable" if example.desirable else "undesirable"
        return (segments[0], *(replace(answer, label=label) for answer in segments[1:]))
    return tuple(segments)


def _segment(ids: Sequence[int], trained: Sequence[bool], parent: int) -> Segment:
    """Build a segment; nothing predicts the first token of a root."""
    mask = np.array(trained, np.bool_)
    if parent < 0:
        mask[:1] = False
    return Segment(np.array(ids, np.int32), mask, parent)


def _chunks(document: Segment, max_length: int | None) -> Iterator[Segment]:
    """Cut a document into roots of at most max_length tokens; a last single token predicts nothing and is left out."""
    size = max_length or len(document)
    for start in range(0, len(document), size):
        if start and start == len(document) - 1:
            return
        yield _segment(document.ids[start : start + size].tolist(), document.trained[start : start + size].tolist(), -1)


def _doubled_bos(ids: Sequence[int], bos: int | None) -> int:
    """Count the bos tokens before the last of those that ids begin with."""
    doubled = 0
    while bos is not None and list(ids[doubled : doubled + 2]) == [bos, bos]:
        doubled += 1
    return doubled


def _is_too_long(row: Row | Refusal) -> bool:
    return isinstance(row, Refusal) and row.reason == TOO_LONG


def _without_oldest_turns(example: Example) -> Iterator[Example]:
    """Yield the example with ever less of its history: a leading system message and the last question stay."""
    match example:
        case PreferencePair(prompt=prompt) | RankedAnswers(prompt=prompt):
            for start in _later_questions(prompt, len(prompt)):
                yield replace(example, prompt=_leading_system(prompt) + prompt[start:])
        case Conversation(messages=messages) | LabeledConversation(messages=messages):
            for start in _later_questions(messages, _last_answer(messages)):
                yield replace(example, messages=_leading_system(messages) + messages[start:])
        case Document():
            return


def _last_answer(messages: Sequence[Message]) -> int:
    return max((place for place, message in enumerate(messages) if message.role == "assistant"), default=0)


def _later_questions(messages: Sequence[Message], end: int) -> list[int]:
    return [i for i, message in enumerate(messages[:end]) if message.role == "user"][1:]


def _leading_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    return messages[:1] if messages[0].role == "system" else ()
