"""Converts text to the token ids of CLIP's vocabulary (49,408 entries)."""

import functools
import html
import re

import instant_clip_tokenizer

VOCAB_SIZE = 49408
START = 49406
END = 49407

_SPECIAL = {"<|startoftext|>": START, "<|endoftext|>": END}
_QUOTES = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")


@functools.cache
def _tokenizer() -> instant_clip_tokenizer.Tokenizer:
    return instant_clip_tokenizer.Tokenizer()


def encode(text: str) -> tuple[int, ...]:
    """Returns the token ids of `text`, without start and end tokens.

    Like CLIP's own tokenizer, it unescapes HTML twice, replaces typographic quotes by
    plain ones, and converts "<|startoftext|>" and "<|endoftext|>" to START and END.
    """
    text = html.unescape(html.unescape(text)).translate(_QUOTES)
    ids: list[int] = []
    for part in re.split(f"({'|'.join(map(re.escape, _SPECIAL))})", text):
        special = (_SPECIAL[part],) if part in _SPECIAL else None
        ids.extend(special or _tokenizer().encode(part))
    return tuple(ids)


_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen "
    "fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def number_words(number: int) -> str:
    """Spells a number in English: 128 is "one hundred and twenty-eight".

    Raises:
        ValueError: outside 0..999.
    """
    if not 0 <= number <= 999:
        raise ValueError(f"number_words({number}): only 0 to 999 can be spelt.")
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")
    hundreds, rest = divmod(number, 100)
    words = f"{_ONES[hundreds]} hundred"
    return f"{words} and {number_words(rest)}" if rest else words
