"""Languages: one plain sentence of each, and what cannot be told."""

import pytest

from poise.curate.language import KNOWN, SCRIPTS, WORDS, language_of

SENTENCES = {
    "en": "The cat sat on the mat, and it was happy with that.",
    "de": "Die Katze sitzt auf der Matte und ist nicht allein.",
    "fr": "Le chat est sur le tapis et il ne veut pas sortir dans la rue.",
    "es": "El gato está en la casa y no quiere salir por la puerta con los perros.",
    "pt": "O gato está em casa e não quer sair com os cães para a rua, mais uma vez.",
    "it": "Il gatto è in casa e non vuole uscire con gli altri gatti della strada.",
    "nl": "De kat zit op het dak en wil niet naar beneden, maar dat is ook niet erg.",
    "sv": "Katten sitter på taket och vill inte komma ner, men det är inte så farligt för den.",
    "da": "Katten sidder på taget og vil ikke ned, men hvad er der også at gøre mere?",
    "no": "Katten sitter på taket og vil ikke ned, men hva er det også å gjøre mer av noe?",
    "fi": "Kissa on katolla ja se ei tule alas, mutta se ei ole paha, kun hän on siellä.",
    "pl": "Kot siedzi na dachu i nie chce zejść, ale to nie jest takie złe dla niego.",
    "cs": "Kočka je na střeše a nechce se vrátit, ale to není tak zlé jako pro psa.",
    "ro": "Pisica este pe acoperiș și nu vrea să coboare, care este și un lucru bun pentru ea.",
    "hu": "A macska a tetőn van, és nem akar lejönni, de ez nem olyan nagy baj.",
    "tr": "Kedi çatıda ve inmek istemiyor, bu da onun için çok kötü bir şey değil.",
    "vi": "Con mèo ở trên mái nhà và không muốn xuống, đó là một điều không tốt cho nó.",
    "id": "Kucing itu ada di atap dan tidak mau turun, ini adalah hal yang baik untuk dia.",
    "ru": "Кот сидит на крыше и не хочет слезать, но это не так плохо, как он думает.",
    "uk": "Кіт сидить на даху і не хоче злазити, але це не так погано, як він думає.",
    "bg": "Котката е на покрива и не иска да слезе, но това не е толкова лошо за нея.",
    "ar": "القطة على السطح و لا تريد أن تنزل من هناك إلى البيت في هذا اليوم.",
    "fa": "گربه را از بام به خانه آوردند که این کار برای آن خوب است.",
    "ur": "بلی چھت پر ہے اور یہ نیچے آنے کے لیے تیار نہیں ہے کہ وہ گھر میں جائے۔",
    "hi": "बिल्ली छत पर है और यह नीचे आने के लिए तैयार नहीं है।",
    "ja": "猫は屋根の上にいて、降りたくないようです。",
    "zh": "猫在屋顶上不想下来，但这并不是一件坏事。",
    "ko": "고양이가 지붕 위에 있고 내려오고 싶어하지 않습니다.",
    "th": "แมวอยู่บนหลังคาและไม่อยากลงมา",
    "el": "Η γάτα είναι στη στέγη και δεν θέλει να κατέβει.",
    "he": "החתול על הגג ולא רוצה לרדת.",
    "ta": "பூனை கூரையில் உள்ளது, இறங்க விரும்பவில்லை.",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_a_plain_sentence_is_told(code: str) -> None:
    assert language_of(SENTENCES[code]) == code


@pytest.mark.parametrize(
    "text", ["", "42", "Hello!", "true", "α = β + γ", "Müller, Köln", "x = [y for y in z]", "北京"]
)
def test_what_is_too_short_cannot_be_told(text: str) -> None:
    assert language_of(text) is None


def test_a_language_without_a_list_cannot_be_told() -> None:
    assert language_of("Paka amekaa juu ya paa na hataki kushuka chini kwa sababu ya mbwa.") is None


def test_a_few_words_of_another_script_decide_nothing() -> None:
    assert language_of("The word 猫 is read as neko, and it is the one that you have to learn.") == "en"


def test_every_language_is_named_once() -> None:
    assert tuple(sorted({*SCRIPTS.values(), *WORDS})) == KNOWN
    assert not set(SCRIPTS.values()) & set(WORDS)
