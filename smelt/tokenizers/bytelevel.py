"""A printable character for each of the 256 bytes, as GPT-2 chose them.

Byte-level BPE merges bytes, but published vocabularies are JSON, so each byte is written as one visible character:
itself where Latin-1 has a visible one ("A" is "A"), else the next free character from U+0100 (a space is U+0120).
The order of these characters is also the order of ids 0..255 that Hugging Face's trainer gives, hence ours.

Ref: Language Models are Unsupervised Multitask Learners (GPT-2), section 2.2.
"""

from __future__ import annotations

import codecs

from smelt.core.errors import TokenizerError

# The bytes whose Latin-1 character is visible: no controls, no spaces, no soft hyphen (0xAD).
_VISIBLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_HIDDEN = tuple(byte for byte in range(256) if byte not in _VISIBLE)

# BYTE_ORDER[id] is the byte that id 0..255 stands for: visible characters first, as their code points are smaller.
BYTE_ORDER = (*_VISIBLE, *_HIDDEN)
BYTE_TO_CHARACTER = {byte: chr(byte) for byte in _VISIBLE} | {byte: chr(0x100 + n) for n, byte in enumerate(_HIDDEN)}
_CHARACTERS = "".join(BYTE_TO_CHARACTER[byte] for byte in range(256))
CHARACTER_TO_BYTE = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}


def to_visible(data: bytes) -> str:
    """Write bytes as visible characters: b" the" -> "\\u0120the"."""
    return codecs.charmap_decode(data, "strict", _CHARACTERS)[0]


def from_visible(text: str) -> bytes:
    """Read bytes back from visible characters.

    Raises:
        KeyError: a character stands for no byte.
    """
    return bytes([CHARACTER_TO_BYTE[character] for character in text])


def lone_surrogate(text: str) -> TokenizerError:
    """Return the error for a text that no UTF-8 can express, with the place."""
    place = next(place for place, character in enumerate(text) if "\ud800" <= character <= "\udfff")
    return TokenizerError(
        f"the text has a lone surrogate (U+{ord(text[place]):04X}) at character {place}",
        fix="decode the file as UTF-8, or replace surrogates before encoding",
    )
