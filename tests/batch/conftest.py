"""Tokenizers made in process: byte-level like GPT-2's, and two that put a space before every text like Llama 2's."""

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = ["hello hi there user assistant system answer question no yes<|>\n\n###"] * 4
WORDS = ("hello", "hi", "there", "user", "assistant", "answer", "INST")


@pytest.fixture
def byte_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    """Make a byte-level BPE tokenizer whose special tokens are the ones named."""

    def make(
        eos: str | None = "</s>",
        bos: str | None = None,
        pad: str | None = None,
        others: tuple[str, ...] = (),
        adds_bos: bool = False,
    ) -> PreTrainedTokenizerFast:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        specials = list(dict.fromkeys(token for token in (bos, eos, pad, *others) if token))
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(CORPUS, trainer)
        if adds_bos and bos:
            tokenizer.post_processor = _bos_first(tokenizer, bos)
        names = {"eos_token": eos, "bos_token": bos, "pad_token": pad}
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{key: name for key, name in names.items() if name})

    return make


@pytest.fixture(params=["Llama 2's normalizer", "Metaspace with Unigram"])
def spacing_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """Make a tokenizer that puts a space before every text, in each of the two ways there are."""
    specials = ["<unk>", "<s>", "</s>"]
    byte_pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = ["▁", *(chr(code) for code in range(33, 127))]
    if request.param == "Llama 2's normalizer":
        merges, pieces = _merges()
        vocab = {
            piece: index for index, piece in enumerate(dict.fromkeys([*specials, *byte_pieces, *letters, *pieces]))
        }
        tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        words = [space + word for word in WORDS for space in ("▁", "")]
        pieces = [(piece, -10.0) for piece in (*specials, *byte_pieces, *letters)] + [(word, -3.0) for word in words]
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = _bos_first(tokenizer, "<s>")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )


def _bos_first(tokenizer: Tokenizer, bos: str) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))])


def _merges() -> tuple[list[tuple[str, str]], list[str]]:
    """Build every word from its left: h e, he l, hel l, …, and the same after a space."""
    merges: dict[tuple[str, str], None] = {}
    for word in WORDS:
        for whole in (word, "▁" + word):
            for end in range(1, len(whole)):
                merges[whole[:end], whole[end]] = None
    return list(merges), ["".join(pair) for pair in merges]
