"""Text files that users write, in whatever editor: UTF-8, with or without a byte order mark.

An encoding is never guessed: bytes that are not UTF-8 are refused with the name of what they are where
their mark says so, since a wrong guess would change a name without anybody noticing.
"""

import codecs
from pathlib import Path

from trainables.file_kinds import odd_kind

LARGEST = 2**24  # Bytes; the ids of a million images have as many.
MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # Before UTF-16, whose mark its own begins with.
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


class UserTextError(ValueError):
    """A file is not text that can be read; says what it is instead."""


def read_user_text(path: Path, *, largest: int = LARGEST) -> str:
    """Return the content of a file, without a byte order mark.

    Raises:
        UserTextError: if it is larger than `largest` bytes, not UTF-8, or no file.
        OSError: if it cannot be read.
    """
    kind = odd_kind(path)
    if kind is not None:
        raise UserTextError(f"{kind}, must be a file")
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise UserTextError(f"larger than the {largest:,} bytes that are read")
    found = next((name for mark, name in MARKS.items() if content.startswith(mark)), None)
    if found is not None:
        raise UserTextError(f"{found} text, must be UTF-8: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise UserTextError(
            f"not UTF-8 text, byte 0x{byte:02x} in line {line}: save it as UTF-8"
        ) from error
