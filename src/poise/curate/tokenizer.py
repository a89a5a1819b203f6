"""A tokenizer from its files alone, by the tokenizers library: what the renderer asks of one, without transformers.

    tokenizer.json           vocabulary, merges, added tokens
    tokenizer_config.json    the names of special tokens, and often the chat template
    chat_template.jinja      the chat template, where the configuration does not hold it

A model whose class builds its tokenizer in code of its own, beside tokenizer.json, may be split otherwise in training.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast, overload

from poise.chat_template import render
from poise.errors import ModelError

VOCABULARY = "tokenizer.json"
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
"""The special tokens that a chat template may name."""
FLAGS = ("lstrip", "rstrip", "normalized", "single_word", "special")


@dataclass(frozen=True)
class TokenizerFiles:
    """What stands in a tokenizer's files; travels to other processes and machines as it is."""

    name: str
    vocabulary: str
    """The text of tokenizer.json."""
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    chat_template: str | None = None


def read_tokenizer(name: str, revision: str | None = None) -> TokenizerFiles:
    """Read a folder, or a model of the Hub; ModelError where there is no tokenizer.json."""
    vocabulary = _text(name, VOCABULARY, revision)
    if vocabulary is None:
        raise ModelError(
            f"tokenizer: there is no tokenizer.json in {name}\n"
            "    why:    tokens are counted by the tokenizers library, which reads that file\n"
            "    to do:  load the tokenizer with transformers once and save_pretrained() it to a folder"
        )
    config: dict[str, Any] = json.loads(_text(name, "tokenizer_config.json", revision) or "{}")
    if "added_tokens_decoder" not in config:
        config |= json.loads(_text(name, "special_tokens_map.json", revision) or "{}")
    template = _text(name, "chat_template.jinja", revision) or _template_of(config.get("chat_template"))
    return TokenizerFiles(name, vocabulary, config, template)


class FileTokenizer:
    """The part of transformers' PreTrainedTokenizerFast that rendering uses."""

    bos_token: str | None = None
    eos_token: str | None = None
    unk_token: str | None = None
    sep_token: str | None = None
    pad_token: str | None = None
    cls_token: str | None = None
    mask_token: str | None = None

    def __init__(self, files: TokenizerFiles) -> None:
        _need_tokenizers()
        from tokenizers import Tokenizer

        self.chat_template = files.chat_template
        self._backend = Tokenizer.from_str(files.vocabulary)
        self._backend.no_truncation()
        self._backend.no_padding()
        for name in NAMED:
            setattr(self, name, _content(files.config.get(name)))
        self._add_missing(files.config)

    @overload
    def __call__(self, text: str, *, add_special_tokens: bool = ...) -> dict[str, list[int]]: ...
    @overload
    def __call__(
        self, text: list[str], *, add_special_tokens: bool = ..., return_attention_mask: bool = ..., verbose: bool = ...
    ) -> dict[str, list[list[int]]]: ...
    def __call__(
        self,
        text: str | list[str],
        *,
        add_special_tokens: bool = True,
        return_attention_mask: bool = False,
        verbose: bool = False,
    ) -> dict[str, Any]:
        """Return `input_ids` of one text or of many, which are encoded in parallel."""
        texts = [text] if isinstance(text, str) else text
        ids = [each.ids for each in self._backend.encode_batch_fast(texts, add_special_tokens=add_special_tokens)]
        return {"input_ids": ids[0] if isinstance(text, str) else ids}

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool = False, add_generation_prompt: bool = False
    ) -> str:
        """Return what the chat template makes of messages; raises what the template raises."""
        return render(
            self.get_chat_template(), conversation, generation=add_generation_prompt, tokens=self.special_tokens_map
        )

    def get_chat_template(self) -> str:
        """Return the chat template's text."""
        return cast(str, self.chat_template)

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """Name -> text of the special tokens there are."""
        return {name: text for name in NAMED if (text := getattr(self, name)) is not None}

    @property
    def added_tokens_decoder(self) -> dict[int, Any]:
        """Id -> token, of all that is not split further."""
        return self._backend.get_added_tokens_decoder()

    @property
    def bos_token_id(self) -> int | None:
        """Id of the token that texts begin with."""
        return self._id(self.bos_token)

    @property
    def unk_token_id(self) -> int | None:
        """Id of the token for what has none."""
        return self._id(self.unk_token)

    @property
    def pad_token_id(self) -> int | None:
        """Id of the token that fills up."""
        return self._id(self.pad_token)

    def get_vocab(self) -> dict[str, int]:
        """Return token -> id, of added tokens too."""
        return self._backend.get_vocab()

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """Return a token's id, that of the unknown token where it has none."""
        found = self._id(token)
        return self.unk_token_id if found is None else found

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str | None]:
        """Return the tokens of ids."""
        return [self._backend.id_to_token(index) for index in ids]

    def add_tokens(self, tokens: list[Any], special_tokens: bool = False) -> int:
        """Add tokens that are never split; returns how many are new."""
        return self._backend.add_special_tokens(tokens) if special_tokens else self._backend.add_tokens(tokens)

    def _id(self, token: str | None) -> int | None:
        return None if token is None else self._backend.token_to_id(token)

    def _add_missing(self, config: dict[str, Any]) -> None:
        """Add the tokens that the configuration names and tokenizer.json does not list, as transformers does."""
        from tokenizers import AddedToken

        listed = cast("dict[str, dict[str, Any]]", config.get("added_tokens_decoder") or {})
        further = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
        special = [_content(each) for each in (further if isinstance(further, list) else further.values())]
        there = {token.content for token in self.added_tokens_decoder.values()}
        tokens = [
            AddedToken(str(fields["content"]), **{name: fields[name] for name in FLAGS if name in fields})
            for _, fields in sorted(listed.items(), key=lambda item: int(item[0]))
        ]
        tokens += [
            AddedToken(text, special=True, normalized=False) for text in (*self.special_tokens_map.values(), *special)
        ]
        self._backend.add_tokens([token for token in tokens if token.content not in there])


def _text(name: str, file: str, revision: str | None) -> str | None:
    """Return the text of one of a tokenizer's files, None where it does not have it."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        path = folder / file
        return path.read_text(encoding="utf-8") if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
    )

    try:
        return Path(hf_hub_download(name, file, revision=revision)).read_text(encoding="utf-8")
    except RemoteEntryNotFoundError:
        return None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        if isinstance(error, LocalEntryNotFoundError) and file != VOCABULARY:
            return None  # without a network only what was downloaded before is there
        raise ModelError(
            f"tokenizer: there is no folder {name}, and it was not loaded from the Hugging Face Hub\n"
            f"    why:    {type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}\n"
            "    to do:  correct the name, or download the tokenizer and give its folder"
        ) from None


def _template_of(written: Any) -> str | None:
    """Return the template that a configuration holds: its text, or `default` of several named ones."""
    if isinstance(written, list):
        named = {each["name"]: each["template"] for each in cast("list[dict[str, str]]", written)}
        return named.get("default")
    return written


def _content(token: Any) -> str | None:
    """Return a special token's text; it is written as text, or as an object with its flags."""
    return token["content"] if isinstance(token, dict) else token


def _need_tokenizers() -> None:
    if find_spec("tokenizers") is None:
        raise ModelError(
            "the step tokens needs the package tokenizers, which is not installed\n"
            "    to do:  pip install tokenizers, or leave the step out"
        )
