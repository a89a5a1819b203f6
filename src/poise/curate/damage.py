"""Text that a wrong reading or a half-done conversion has damaged; the first kind that is found is told.

    replacement character    U+FFFD             a byte that was no character
    mojibake                 cafÃ©, donâ€™t     UTF-8 read as Windows-1252 or Latin-1
    control character        U+0007             other than tab, line and page breaks
    HTML entity              Tom &amp; Jerry    left over; not in code, nor beside tags

Mojibake is told by the accents, signs, emoji and Cyrillic letters that it is commonest in.
"""

import re

from poise.curate.reason import Reason


def _read_wrongly(byte: int) -> str:
    """Return what the bytes that continue a UTF-8 character are in Windows-1252, else in Latin-1."""
    try:
        return bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:
        return chr(byte)


CONTINUED = {char for byte in range(0x80, 0xC0) for char in (_read_wrongly(byte), chr(byte))}
QUOTES = set("‘’‚“”„–—…‹›«»")
"""These also follow a capital Ã or Â that ends a word, as in `AMANHÃ”`; inside one they are damage."""
ANY = f"[{re.escape(''.join(sorted(CONTINUED)))}]"
SIGN = f"[{re.escape(''.join(sorted(CONTINUED - QUOTES)))}]"
QUOTE = f"[{re.escape(''.join(sorted(QUOTES)))}]"
MOJIBAKE = re.compile(rf"[ÂÃ](?:{SIGN}|{QUOTE}(?=\w))|[âï]{ANY}{{2}}|ð{ANY}{{3}}|(?:[ÐÑ]{ANY}){{2}}")
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
TAG = re.compile(r"</?[A-Za-z][^<>]*>")
ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|hellip|[mn]dash|[lr][sd]quo|#\d{2,5}|#x[0-9a-fA-F]{2,5});")


def damage_in(text: str) -> Reason | None:
    """Return the kind of damage, or None."""
    if not text.isascii():
        if (position := text.find("\ufffd")) >= 0:
            return Reason("replacement character", text[max(0, position - 20) : position + 20])
        if found := MOJIBAKE.search(text):
            return Reason("mojibake", found.group())
    if found := CONTROL.search(text):
        return Reason("control character", f"U+{ord(found.group()):04X}")
    if "&" in text and (found := ENTITY.search(CODE.sub("", text))) and not TAG.search(text):
        return Reason("HTML entity", found.group())
    return None
