"""Text from outside, such as the names of files and classes, made safe to print.

A name may hold an escape sequence that clears the screen, or a line break that forges a line of output.
"""

from __future__ import annotations

import unicodedata


def without_control(text: str, *, keep: str = "\n\t") -> str:
    """Text with its control characters, and bytes that are not UTF-8, as escapes such as `\\x1b` and `\\udcff`.

    Args:
        text: a message, which may have several lines.
        keep: control characters that stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) if character not in keep else character for character in text)


def one_line(name: str) -> str:
    """A name for use within a line: as `without_control`, with line breaks and tabs as escapes too."""
    return without_control(name, keep="")


def _escaped(character: str) -> str:
    # Cc: control characters. Cs: halves of surrogate pairs, which stand for bytes that are not UTF-8. Zl and Zp: the
    # line and paragraph separators. Cf is kept: emoji and several scripts need it, but not the marks that turn the
    # direction of writing, by which a name can look like another.
    category = unicodedata.category(character)
    is_direction_mark = "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"
    if category not in ("Cc", "Cs", "Zl", "Zp") and not is_direction_mark:
        return character
    return {"\n": "\\n", "\t": "\\t"}.get(character) or (
        f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"
    )
