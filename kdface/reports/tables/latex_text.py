r"""Escape text for LaTeX as ASCII, for pdflatex with its standard fonts and `amssymb`.

Unsupported letters are shown as code points, `[U+738B]`.
"""

from __future__ import annotations

import re
import unicodedata

from pylatexenc.latexencode import RULE_REGEX, UnicodeToLatexConversionRule, UnicodeToLatexEncoder

_LONG = 24  # letters; longer words may break anywhere
_KNOWN = "\x00-\u0148\u014a-\u017f\u0370-\u03ff\u2010-\u209f\u20ac\u2113\u2190-\u22ff\u2713\u27e8\u27e9"
_LACKING = "↜↝⇅⇵∟∯∰∱∻∾≆≋≌≙≛≸≹⊧⊨⊫⊶⊷⊹⊾⋘⋙⋨⋰"  # signs for which pylatexenc needs other packages


def _code_point(letter: str) -> str:
    return f"{{[}}U+{ord(letter):04X}]"


_OURS = [
    (re.compile(f"[^{_KNOWN}]|[{_LACKING}]"), lambda found: _code_point(found.group())),
    (re.compile(r"[\[*]"), r"{\g<0>}"),  # would start an option after the end of a line
    (re.compile(r"\|"), r"\\textbar{}"),
    (re.compile(r"(?<=-)-|(?<=[`?!])`|(?<=')'"), r"{}\g<0>"),  # no ligatures
]
_encoder = UnicodeToLatexEncoder(
    conversion_rules=[UnicodeToLatexConversionRule(RULE_REGEX, _OURS), "defaults"],
    unknown_char_policy=_code_point,
    unknown_char_warning=False,
)


def plain(words: str) -> str:
    """Escape text for LaTeX, in one line."""
    return str(_encoder.unicode_to_latex(_normal(words)))


def running(words: str) -> str:
    """Like `plain`, for a paragraph: long words may break anywhere."""
    cut = ([word[at : at + _LONG] for at in range(0, len(word), _LONG)] for word in _normal(words).split())
    return " ".join(r"\allowbreak{}".join(map(plain, parts)) for parts in cut)


def _normal(words: str) -> str:
    """Normalise accents and spaces."""
    return " ".join(unicodedata.normalize("NFC", words).split())
