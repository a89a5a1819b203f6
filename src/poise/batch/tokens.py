"""Make a tokenizer fit to train with: a chat template, the tokens that end an answer, a pad that is none of them.

An answer that never learns to stop is the commonest silent failure of fine-tuning: the end-of-turn token is masked
because it equals the pad, or the template ends a turn with another token than the one generation stops at. Here the
stop token is found by rendering a conversation, becomes the tokenizer's eos, and the pad is chosen after it.

Rows may ask for templates of their own. Each gets a copy of the tokenizer as it would be with that template alone, but
all have one vocabulary, and the tokenizer that is saved stops wherever any of them does:

    template    main: zephyr      alpaca      chatml                        the saved model
    answers     …</s>             …</s>       …<|im_end|>                   stops at </s> and <|im_end|>
    vocabulary  <|im_start|> and <|im_end|>, which chatml needs, in all     pads with neither
"""

import copy
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jinja2.exceptions import TemplateError

from poise.chat_template import render as render_template
from poise.errors import RecipeError
from poise.examples import Message
from poise.names import did_you_mean

if TYPE_CHECKING:
    from transformers import AddedToken, PreTrainedTokenizerBase

TEMPLATES = Path(__file__).parent / "templates"
OWN, INLINE = "the tokenizer's own", "the recipe's"
ENDS = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|end|>", "[EOS]")
"""What vocabularies call their end of text, the commonest first."""
END_MARKER = re.compile(r"\s*(<\|[^\s<>|]+\|>|<\w*(?:end|eos|eot)\w*>|</s>)")
"""Text right after an answer that is meant to be one token: `<|im_end|>`, `<end_of_turn>`, `</s>`."""
PAD_NAMES = ("pad", "reserved", "unused", "dummy", "extra")
"""Parts of the names of tokens that a vocabulary keeps for padding or for nothing, the best first."""
TEMPLATE_ERRORS = (TemplateError, TypeError, ValueError, KeyError, AttributeError)
"""What a template can raise on messages that it does not expect."""


@dataclass(frozen=True)
class PreparedTokenizer:
    """A tokenizer whose template, stop tokens and pad are settled; it is saved with the model as it stands."""

    tokenizer: "PreTrainedTokenizerBase"
    template_name: str
    """A shipped name, a file, `the tokenizer's own` or `the recipe's`."""
    template_hash: str
    """16 hex digits of SHA-256 over the template's text."""
    stop_ids: tuple[int, ...]
    """Where generation must stop, under any of the templates; the first ends every answer that is trained under this
    one, and is the tokenizer's eos."""
    pad_id: int | None
    """Never one of `stop_ids`."""
    added_tokens: tuple[str, ...]
    """Tokens the vocabulary did not have; the trainer resizes the embeddings for them."""
    notes: tuple[str, ...]
    """What was decided and why, a sentence each, for the log."""
    others: "Mapping[str, PreparedTokenizer]" = field(default_factory=dict[str, "PreparedTokenizer"])
    """By name, what rows are rendered with that ask for another template."""
    own_template: str | None = None
    """The template the tokenizer came with."""


def prepare_tokenizer(
    tokenizer: "PreTrainedTokenizerBase",
    chat_template: str | None,
    eos_token: str | None = None,
    others: Iterable[str] = (),
) -> PreparedTokenizer:
    """Settle template, stop tokens and pad, and write them into `tokenizer`.

    `chat_template` is a shipped name (`chatml`), a `.jinja` file, Jinja text, or None for the tokenizer's own; `others`
    are shipped names that rows ask for. Raises RecipeError for a template that is unknown, broken, or prompts the model
    with other text than it trains on.
    """
    own_template = tokenizer.get_chat_template() if tokenizer.chat_template else None
    given_eos = eos_token or cast("str | None", tokenizer.eos_token)
    main = _Preparation(tokenizer)
    main.settle(chat_template, eos_token)
    works = {main.name: main}
    for name in others:
        if name not in works:
            works[name] = _Preparation(copy.deepcopy(tokenizer))
            works[name].settle(name, given_eos or works[main.name].eos)
            main.share(works[name])
    stop_ids = tuple(dict.fromkeys(index for work in works.values() for index in work.stop_ids))
    main.set_pad(stop_ids)
    for work in works.values():
        work.take_tokens(main)
    prepared = {name: work.prepared(work.stop_ids) for name, work in works.items() if work is not main}
    return replace(main.prepared(stop_ids), others=prepared, own_template=own_template)


def render_text(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], generation: bool = False) -> str:
    """Return what the chat template makes of messages, as text; raises what the template raises."""
    turns = [{"role": message.role, "content": message.content} for message in messages]
    template = tokenizer.get_chat_template()
    return render_template(template, turns, generation=generation, tokens=tokenizer.special_tokens_map)


def control_tokens(tokenizer: "PreTrainedTokenizerBase") -> dict[str, int]:
    """Return the tokens that only the template may write: the special ones and those that it spells out."""
    template = cast(str, tokenizer.chat_template)
    tokens = {
        token.content: index
        for index, token in _added(tokenizer).items()
        if token.special or token.content.strip() in template
    }
    return {text: index for text, index in tokens.items() if text.strip()}


def control_pattern(tokenizer: "PreTrainedTokenizerBase") -> re.Pattern[str]:
    """Match any control token, the longest first, as the tokenizer does."""
    longest_first = sorted(control_tokens(tokenizer), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def adds_bos(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether the tokenizer starts every plain text with its bos token."""
    ids = cast("list[int]", tokenizer("a")["input_ids"])
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]


class _Preparation:
    """The tokenizer being changed, and what to tell about it."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer = tokenizer
        self.name = ""
        self.eos = ""
        """The eos token before the template's stop token took its place."""
        self.stop_ids: tuple[int, ...] = ()
        self.stop_note = ""
        self.added_tokens: list[str] = []
        self.notes: list[str] = []

    def settle(self, chat_template: str | None, eos_token: str | None) -> None:
        """Settle everything but the pad, which must stop no answer under any template."""
        self.name = self.set_template(chat_template)
        self.set_eos(eos_token)
        self.eos = cast(str, self.tokenizer.eos_token)
        self.stop_ids = self.set_stop()
        _check_generation_prompt(self.tokenizer, self.notes)

    def share(self, other: "_Preparation") -> None:
        """Add the tokens that another template needs, in its order, so that both give them the same ids."""
        self.notes += [f"rows in {other.name}: {note}" for note in other.notes if note != other.stop_note]
        if other.stop_note:
            self.notes.append(f"answers of rows in {other.name} end in {other.tokenizer.eos_token}")
        self.added_tokens += other.added_tokens
        self.take_tokens(other)

    def take_tokens(self, other: "_Preparation") -> None:
        """Add the tokens of another copy that this one lacks."""
        tokens: list[Any] = [token for _, token in sorted(_added(other.tokenizer).items())]
        self.tokenizer.add_tokens([token for token in tokens if not self._is_token(token.content)], special_tokens=True)

    def prepared(self, stop_ids: tuple[int, ...]) -> PreparedTokenizer:
        """Return what was settled."""
        return PreparedTokenizer(
            self.tokenizer,
            self.name,
            hashlib.sha256(cast(str, self.tokenizer.chat_template).encode()).hexdigest()[:16],
            stop_ids,
            cast("int | None", self.tokenizer.pad_token_id),
            tuple(self.added_tokens),
            tuple(self.notes),
        )

    def set_template(self, chosen: str | None) -> str:
        """Put the chosen template on the tokenizer and return its name."""
        name, text = _find_template(chosen) if chosen else self._default_template()
        if name in shipped_templates() and "bos_token" not in text and adds_bos(self.tokenizer):
            text = "{{ bos_token }}" + text
            self.notes.append(f"the {name} template starts with {self.tokenizer.bos_token}, as this tokenizer does")
        self.tokenizer.chat_template = text
        return name

    def _default_template(self) -> tuple[str, str]:
        if self.tokenizer.chat_template:
            return OWN, self.tokenizer.get_chat_template()
        name = "chatml" if all(map(self._is_token, ("<|im_start|>", "<|im_end|>"))) else "zephyr"
        why = "its vocabulary has ChatML's tokens" if name == "chatml" else "which needs no new tokens"
        self.notes.append(f"the tokenizer has no chat template: using {name}, {why}")
        return _find_template(name)

    def set_eos(self, chosen: str | None) -> None:
        """Give the tokenizer the recipe's eos, or find one where it has none."""
        eos = chosen or cast("str | None", self.tokenizer.eos_token)
        if eos is None:
            eos = next(filter(self._is_token, ENDS), ENDS[0])
            self.notes.append(f"the tokenizer has no eos token: using {eos}")
        self._ensure_token(eos)
        self.tokenizer.eos_token = eos

    def set_stop(self) -> tuple[int, ...]:
        """Find the token that ends an answer under the template, and make it the eos."""
        eos = cast(str, self.tokenizer.eos_token)
        stop = self._find_stop()
        if stop is None:
            stop = eos
            self.notes.append(f"the template writes no stop token after an answer: the last answer ends in {eos}")
        if stop != eos:
            self.stop_note = f"answers end in {stop}, which becomes the eos token; {eos} stops generation too"
            self.notes.append(self.stop_note)
        self.tokenizer.eos_token = stop
        return tuple(dict.fromkeys(map(self._token_id, (stop, eos))))

    def _find_stop(self) -> str | None:
        """Return the first control token after the last answer; one the vocabulary does not have yet is added."""
        after = _probe(self.tokenizer, ("user", "assistant")).rpartition(_mark(1))[2]
        control = control_pattern(self.tokenizer).search(after)
        marker = END_MARKER.match(after)
        if marker is None or (control and control.start() <= marker.start(1)):
            return control.group() if control else None
        stop = marker[1]
        start = stop.replace("end", "start")
        for token in dict.fromkeys((start, stop)):
            if token in cast(str, self.tokenizer.chat_template):
                self._ensure_token(token)
        self._ensure_token(stop)
        return stop

    def set_pad(self, stop_ids: tuple[int, ...]) -> None:
        """Keep a pad token that stops nothing, else take an idle one, else add one."""
        pad = cast("int | None", self.tokenizer.pad_token_id)
        if pad is not None and pad not in stop_ids:
            return
        chosen = self._idle_token(stop_ids) or "<|pad|>"
        self._ensure_token(chosen)
        was = "the tokenizer has no pad token" if pad is None else f"{self.tokenizer.pad_token} pads and stops"
        self.notes.append(f"{was}: padding with {chosen}")
        self.tokenizer.pad_token = chosen

    def _idle_token(self, stop_ids: tuple[int, ...]) -> str | None:
        """Return an added token that neither the template nor generation uses."""
        template = cast(str, self.tokenizer.chat_template)
        busy = {*stop_ids, cast("int | None", self.tokenizer.bos_token_id)}
        idle = [
            token.content
            for index, token in _added(self.tokenizer).items()
            if index not in busy and token.content not in template
        ]
        named = (token for part in PAD_NAMES for token in idle if part in token.lower())
        unknown = (token for token in idle if token == self.tokenizer.unk_token)
        return next(named, None) or next(unknown, None)

    def _ensure_token(self, text: str) -> None:
        """Make sure that text is encoded as one special token."""
        from tokenizers import AddedToken

        if self._is_token(text):
            return
        if text not in self.tokenizer.get_vocab():
            self.added_tokens.append(text)
            self.notes.append(f"{text} is new to the vocabulary")
        token: Any = AddedToken(text, special=True, normalized=False)
        self.tokenizer.add_tokens([token], special_tokens=True)

    def _is_token(self, text: str) -> bool:
        return any(token.content == text for token in _added(self.tokenizer).values())

    def _token_id(self, text: str) -> int:
        return cast(int, self.tokenizer.convert_tokens_to_ids(text))


def _added(tokenizer: "PreTrainedTokenizerBase") -> "dict[int, AddedToken]":
    return tokenizer.added_tokens_decoder


@cache
def shipped_templates() -> tuple[str, ...]:
    """Name the templates that come with poise."""
    return tuple(sorted(path.stem for path in TEMPLATES.glob("*.jinja")))


def _find_template(chosen: str) -> tuple[str, str]:
    """Return name and text of a template given as Jinja, as a file or by name."""
    if "{%" in chosen or "{{" in chosen:
        return INLINE, chosen
    if chosen in shipped_templates():
        return chosen, (TEMPLATES / f"{chosen}.jinja").read_text(encoding="utf-8")
    if chosen.endswith(".jinja"):
        if not Path(chosen).is_file():
            raise RecipeError(f"chat_template: there is no file {chosen}\n    to do:  give the path of a Jinja file")
        return chosen, Path(chosen).read_text(encoding="utf-8")
    raise RecipeError(
        f"chat_template: {chosen!r} is no template{did_you_mean(chosen, shipped_templates())}\n"
        f"    to do:  one of {', '.join(shipped_templates())}, a path that ends in .jinja, or the Jinja text itself"
    )


def _mark(index: int) -> str:
    """Return a character that no template writes, to find a message again."""
    return chr(0xF0000 + index)


def _probe(tokenizer: "PreTrainedTokenizerBase", roles: Sequence[Any], generation: bool = False) -> str:
    """Render messages whose contents are marks; RecipeError where the template cannot do even that."""
    return _probe_messages(tokenizer, [Message(role, _mark(i)) for i, role in enumerate(roles)], generation)


def _probe_messages(tokenizer: "PreTrainedTokenizerBase", messages: Sequence[Message], generation: bool = False) -> str:
    try:
        text = render_text(tokenizer, messages, generation)
    except TEMPLATE_ERRORS as error:
        raise RecipeError(
            f"chat_template: it fails on one question and one answer: {error}\n"
            "    why:    every row is rendered with it\n"
            "    to do:  mend the template, or name a shipped one: " + ", ".join(shipped_templates()),
            code="E302",
        ) from error
    if messages[-1].role == "assistant" and _mark(1) not in text:
        raise RecipeError(
            "chat_template: it leaves out the assistant's answer\n"
            "    why:    there would be nothing to train on\n"
            "    to do:  mend the template, or name a shipped one: " + ", ".join(shipped_templates()),
            code="E302",
        )
    return text


def _check_generation_prompt(tokenizer: "PreTrainedTokenizerBase", notes: list[str]) -> None:
    """Check that what inference feeds is how training text begins, and note what follows from the template."""
    prompt = _probe(tokenizer, ("user",), generation=True)
    reasoned = Message("assistant", f"<think>\n{_mark(2)}\n</think>\n\n{_mark(1)}")
    texts = (
        _probe(tokenizer, ("user", "assistant")),
        _probe_messages(tokenizer, (Message("user", _mark(0)), reasoned)),
    )
    text = next((text for text in texts if text.startswith(prompt)), None)
    if text is None:
        raise RecipeError(_disagreement(prompt, texts[0]), code="E301")
    glue = re.split(f"[{_mark(1)}{_mark(2)}]", text[len(prompt) :])[0]
    if glue.strip():
        notes.append(f"the generation prompt ends before {glue!r}: the model learns to write that itself")
    _note_other_turns(tokenizer, prompt, notes)


def _disagreement(prompt: str, text: str) -> str:
    same = next((i for i, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b), min(len(prompt), len(text)))
    shown = [repr(part[max(0, same - 20) : same + 20].replace(_mark(0), "…").replace(_mark(1), "…"))
             for part in (prompt, text)]  # fmt: skip
    return (
        f"chat_template: it prompts with {shown[0]} but trains on {shown[1]}\n"
        "    why:    the model would be asked to go on from a text it never saw\n"
        "    to do:  make the generation prompt the beginning of an assistant turn, or name a shipped template: "
        + ", ".join(shipped_templates())
    )


def _note_other_turns(tokenizer: "PreTrainedTokenizerBase", prompt: str, notes: list[str]) -> None:
    """Say so where bos is repeated, or where an earlier answer does not read as inference would produce it."""
    text = _probe(tokenizer, ("user", "assistant", "user", "assistant"))
    bos = cast("str | None", tokenizer.bos_token)
    if bos and bos != tokenizer.eos_token and text.count(bos) > 1:
        notes.append(f"the template writes {bos} more than once in a conversation, at inference as in training")
    between = text.partition(_mark(1))[2].partition(_mark(2))[0]
    control = control_pattern(tokenizer).search(between)
    if not text.startswith(prompt) or control is None or control.group() != tokenizer.eos_token:
        notes.append("the template writes earlier answers otherwise than the last: only the last answer is trained")
