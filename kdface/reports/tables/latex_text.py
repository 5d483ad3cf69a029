r"""Any text, escaped for LaTeX: ASCII only, for pdflatex with its standard fonts and `amssymb`.

A letter that these lack is shown by its code point, `[U+738B]`.
"""

from __future__ import annotations

import re
import unicodedata

from pylatexenc.latexencode import RULE_REGEX, UnicodeToLatexConversionRule, UnicodeToLatexEncoder

_LONG = 24  # letters of a word; beyond, it may break anywhere
_KNOWN = "\x00-\u0148\u014a-\u017f\u0370-\u03ff\u2010-\u209f\u20ac\u2113\u2190-\u22ff\u2713\u27e8\u27e9"
_LACKING = "↜↝⇅⇵∟∯∰∱∻∾≆≋≌≙≛≸≹⊧⊨⊫⊶⊷⊹⊾⋘⋙⋨⋰"  # signs of that range for which pylatexenc takes other packages


def _code_point(letter: str) -> str:
    return f"{{[}}U+{ord(letter):04X}]"


_OURS = [
    (re.compile(f"[^{_KNOWN}]|[{_LACKING}]"), lambda found: _code_point(found.group())),
    (re.compile(r"[\[*]"), r"{\g<0>}"),  # after the end of a line they would open an option
    (re.compile(r"\|"), r"\\textbar{}"),
    (re.compile(r"(?<=-)-|(?<=[`?!])`|(?<=')'"), r"{}\g<0>"),  # no ligatures
]
_encoder = UnicodeToLatexEncoder(
    conversion_rules=[UnicodeToLatexConversionRule(RULE_REGEX, _OURS), "defaults"],
    unknown_char_policy=_code_point,
    unknown_char_warning=False,
)


def plain(words: str) -> str:
    """Text that LaTeX sets as it stands, in one line."""
    return str(_encoder.unicode_to_latex(_normal(words)))


def running(words: str) -> str:
    """As `plain`, for a paragraph: a word too long for a line may break anywhere."""
    cut = ([word[at : at + _LONG] for at in range(0, len(word), _LONG)] for word in _normal(words).split())
    return " ".join(r"\allowbreak{}".join(map(plain, parts)) for parts in cut)


def _normal(words: str) -> str:
    """One way to write accents, one space between words."""
    return " ".join(unicodedata.normalize("NFC", words).split())
