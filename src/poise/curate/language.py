"""The language of a text, by its script and its commonest words; None where neither tells.

Told by script, from ten letters on: Korean, Japanese, Chinese, Thai, Greek, Hebrew, Armenian, Georgian, Bengali, Tamil,
Telugu, Kannada, Malayalam, Gujarati, Punjabi, Sinhala, Burmese, Khmer, Lao, Amharic. Told by words, from three of them
on: the languages of WORDS. Bengali's and Ethiopic's other languages count as the ones named. A text in another
language, of a few words, or mostly of code, numbers and names has none.
"""

import unicodedata
from collections import Counter
from functools import lru_cache

SCRIPTS = {
    "HANGUL": "ko", "HIRAGANA": "ja", "KATAKANA": "ja", "CJK": "zh", "THAI": "th", "GREEK": "el", "HEBREW": "he",
    "ARMENIAN": "hy", "GEORGIAN": "ka", "BENGALI": "bn", "TAMIL": "ta", "TELUGU": "te", "KANNADA": "kn",
    "MALAYALAM": "ml", "GUJARATI": "gu", "GURMUKHI": "pa", "SINHALA": "si", "MYANMAR": "my", "KHMER": "km",
    "LAO": "lo", "ETHIOPIC": "am",
}  # fmt: skip
WORDS = {
    "en": "the of and to in is that it for with as are was this be on you not or by an have can your which from",
    "de": "der die und das ist nicht ein eine zu den von mit sich auf für im dem des auch es wird sind ich",
    "fr": "le la les des et est un une en du pour que qui dans pas sur au avec ce il sont c'est vous",
    "es": "el la los las de que y en un una es por con para no se del al como su más está",
    "pt": "o a os as de que e em um uma é por com para não se do da no na como mais são você",
    "it": "il lo la gli le di che e è un una in per con non si del della sono come anche più questo",
    "nl": "de het een van en in is dat op te zijn voor met niet die aan er om ook maar wordt",
    "sv": "och att det är en som på för med inte av jag den till har ett kan om så de",
    "da": "og at det er en som på for med ikke af jeg den til har et der også hvad mere kun noget",
    "no": "og at det er en som på for med ikke av jeg den til har et også hva mer bare noe ble",
    "fi": "ja on ei että se oli hän mutta ovat kun tai myös joka niin ole voi sen mitä",
    "pl": "w i na się nie jest z do że to jak są dla oraz przez od ale czy tego",
    "cs": "a je se na v že to s jsou jako pro není ale který by si jeho nebo také",
    "ro": "și în de la cu este pe un o nu care pentru din sunt să mai ca fi",
    "hu": "a az és hogy nem egy is van meg ez de mint vagy ha csak volt",
    "tr": "bir ve bu için ile da de olarak değil çok gibi daha ne en olan",
    "vi": "và là của có không được cho một những với các trong này người để",
    "id": "yang dan di ini untuk dengan tidak adalah dari pada dalam itu akan atau bisa",
    "ru": "и в не на что это как с по для из то но его она он был или если только",
    "uk": "і в не на що це як з та для у але його вона він є або якщо був",
    "bg": "и в не на че това като с за от да е са се или ако тя той",
    "ar": "في من على أن إلى هذا هذه التي الذي مع كان ما لا عن أو",
    "fa": "از به که این است را با در برای آن می و یا هم تا",
    "ur": "کے کا کی میں ہے اور سے کو نے پر یہ ہیں کہ بھی",
    "hi": "के का की में है और से को यह हैं पर एक कि लिए भी",
}
KNOWN = tuple(sorted({*SCRIPTS.values(), *WORDS}))
"""What can be told, by ISO 639-1 code."""

CHARACTERS, LEAST_LETTERS, LEAST_WORDS, LEAST_SHARE, LEAD = 1000, 10, 3, 0.10, 1.25
"""How far is read; letters of a script, words of a language, their share, and the lead over the next that tell it."""
EDGES = "".join(map(chr, range(33, 48))) + ":;<=>?@[]^_`{|}~“”‘’«»¿¡…—–،؛؟।"

_MEANT: dict[str, list[str]] = {}
for _code, _words in WORDS.items():
    for _word in _words.split():
        _MEANT.setdefault(_word, []).append(_code)


def language_of(text: str) -> str | None:
    """Return the ISO 639-1 code of the language that a text is in, as far as it can be told."""
    text = text[:CHARACTERS]
    return (None if text.isascii() else _by_script(text)) or _by_words(text)


def _by_script(text: str) -> str | None:
    counts = Counter[str]()
    for character, count in Counter(text).items():
        if character.isalpha():
            counts[_script(character)] += count
    if not counts:
        return None
    kana = counts["HIRAGANA"] + counts["KATAKANA"]
    if 10 * kana > counts["CJK"]:  # Japanese is written in Chinese characters too, but never long without kana
        counts["HIRAGANA"] += counts.pop("CJK", 0) + counts.pop("KATAKANA", 0)
    script, letters = max(counts.items(), key=lambda item: (item[1], item[0]))
    return SCRIPTS.get(script) if letters >= LEAST_LETTERS else None


@lru_cache(maxsize=1 << 16)
def _script(character: str) -> str:
    return unicodedata.name(character, "").partition(" ")[0]


def _by_words(text: str) -> str | None:
    words = text.lower().replace("’", "'").split()
    counts = Counter[str]()
    for word in words:
        for code in _MEANT.get(word.strip(EDGES), ()):
            counts[code] += 1
    (code, best), (_, second) = [*counts.most_common(2), ("", 0), ("", 0)][:2]
    told = best >= max(LEAST_WORDS, LEAST_SHARE * len(words)) and best >= LEAD * second
    return code if told else None
