"""Cut texts into what metrics count: words, and characters where a script has no spaces.

A Chinese or Japanese character is a word of its own; elsewhere a word is a run of letters and digits. On English text
`words` is what `rouge_score` cuts (without its stemmer), `answer_words` what SQuAD compares, `bleu_words` what mteval's
script v13a cuts. Only BLEU is so dependent on the cut that Chinese has a rule of its own there.

Ref: SQuAD, arXiv:1606.05250, 6.1 (articles and punctuation). Ref: sacreBLEU, arXiv:1804.08771 (13a and zh).
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

import regex

_HAN = r"\p{Han}\p{Hiragana}\p{Katakana}"
_WORD = regex.compile(rf"[{_HAN}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{_HAN}]]+", regex.VERSION1)
_PUNCTUATION = regex.compile(rf"[\p{{P}}{re.escape(string.punctuation)}]")
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_HAN_CHARACTER = regex.compile(rf"[{_HAN}]")
_SPACE = re.compile(r"\s")
CHINESE_SHARE = 0.2
"""Share of such characters from which on texts count as Chinese: a Chinese page on software is a third English."""

_SPLITS = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
"""The rules of mteval-v13a: signs, then points and commas but inside numbers, then a dash behind a digit."""
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
# What sacreBLEU counts as Chinese. It means the planes from U+20000 on, but names U+2001 to U+2A6D and U+2F81 to
# U+2FA1 instead, which is what splits “ and ”: figures are to be those that others publish.
_ZH = re.compile(
    "([\u3400-\u4db5\u4e00-\u9fbb\uf900-\ufa2d\ufa30-\ufa6a\ufa70-\ufad9\uff00-\uffef\u2e80-\u2eff\u3000-\u303f"
    "\u31c0-\u31ef\u2f00-\u2fdf\u2ff0-\u2fff\u3100-\u312f\u31a0-\u31bf\ufe10-\ufe1f\ufe30-\ufe4f\u2001-\u2a6d"
    "\u2600-\u26ff\u2700-\u27bf\u3200-\u32ff\u3300-\u33ff])"
)


def words(text: str) -> list[str]:
    """Return words in lower case and single Chinese characters: "The mill, 3°: 水车" -> the mill 3 水 车."""
    return _WORD.findall(text.lower())


def answer_words(text: str) -> list[str]:
    """Return the words of an answer, without punctuation and without a, an, the: "The mill-wheel." -> millwheel."""
    bare = _ARTICLE.sub(" ", _PUNCTUATION.sub("", text.lower()))
    return _HAN_CHARACTER.sub(r" \g<0> ", bare).split()


def is_chinese(texts: Iterable[str]) -> bool:
    """Tell whether texts are written in characters without spaces, by their share of all that is no space."""
    found = total = 0
    for text in texts:
        found += len(_HAN_CHARACTER.findall(text))
        total += len(_SPACE.sub("", text))
    return total > 0 and found / total >= CHINESE_SHARE


def bleu_words(text: str, *, chinese: bool = False) -> list[str]:
    """Return the words that BLEU counts: by 13a, or with each `chinese` character by itself.

    "Wait, it's 3.5%." -> Wait , it's 3.5 % .
    """
    if chinese:
        text = _ZH.sub(r" \1 ", text.strip())
    else:
        text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
        for name, sign in _ENTITIES:
            text = text.replace(name, sign)
        text = f" {text} "
    for pattern, split in _SPLITS:
        text = pattern.sub(split, text)
    return text.split()
