r"""Text of any kind as LaTeX sets it: ASCII only, for pdflatex with its standard fonts, as wide as it is estimated.

What these fonts lack is shown by its code point, `[U+738B]`.
"""

from __future__ import annotations

import unicodedata

_TEXT = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after the end of a line it would open an option, as a star would be one
    "*": "{*}",
    "‐": "-",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "⁄": "/",
    "…": r"\ldots{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "©": r"\copyright{}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}
_GREEK = (
    r"α\alpha β\beta γ\gamma δ\delta ε\varepsilon ζ\zeta η\eta θ\theta ι\iota κ\kappa λ\lambda μ\mu ν\nu ξ\xi οo π\pi "
    r"ρ\rho ς\varsigma σ\sigma τ\tau υ\upsilon φ\varphi χ\chi ψ\psi ω\omega ϵ\epsilon ϑ\vartheta ϕ\phi "
    r"Γ\Gamma Δ\Delta Θ\Theta Λ\Lambda Ξ\Xi Π\Pi Σ\Sigma Υ\Upsilon Φ\Phi Ψ\Psi Ω\Omega "
)
_SIGNS = (
    r"−- ±\pm ∓\mp ×\times ÷\div ·\cdot ⋅\cdot •\bullet ∗\ast ∘\circ °^\circ ⊕\oplus ⊗\otimes √\surd ✓\surd ✗\times "
    r"≤\leq ≥\geq ⩽\leq ⩾\geq ≠\neq ≈\approx ∼\sim ≃\simeq ≅\cong ≡\equiv ∝\propto ≪\ll ≫\gg «\ll »\gg ¬\neg "
    r"∈\in ∉\notin ⊂\subset ⊆\subseteq ∪\cup ∩\cap ∅\emptyset ∀\forall ∃\exists ∧\wedge ∨\vee ∞\infty ∂\partial "
    r"∇\nabla ∑\sum ∏\prod ∫\int ℓ\ell ‖\| ⟨\langle ⟩\rangle ′' ″'' "
    r"←\leftarrow →\rightarrow ↑\uparrow ↓\downarrow ↔\leftrightarrow ⇐\Leftarrow ⇒\Rightarrow ⇔\Leftrightarrow "
)
_MATH = {each[0]: f"${each[1:]}$" for each in (_GREEK + _SIGNS).split()}  # a letter, then what math calls it
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0323": "d",
    "\u0327": "c",
}
_LONG = 24  # letters of a word; beyond, it may break wherever
_LIGATURES = ("--", "``", "''", "?`", "!`")
# Widths in Computer Modern, a digit being 1.
_WIDTHS = {
    **dict.fromkeys(" !',.:;ijl`[]I|", 0.56),
    **dict.fromkeys("()frst-", 0.8),
    **dict.fromkeys("cez", 0.9),
    **dict.fromkeys("0123456789ago?/$", 1.0),
    **dict.fromkeys("ABCEFLPRTZmw", 1.42),
    **dict.fromkeys("DGHJKNOQUVXY&+=<>~@#%±×−", 1.57),
    **dict.fromkeys("MW—…", 2.05),
}
_LETTER, _OTHER = 1.13, 1.7  # of letters that are not listed: in ASCII, and beyond


def plain(words: str) -> str:
    """Text that LaTeX sets as it stands, in one line."""
    words = _normal(words)
    pairs = zip(f" {words}", words, strict=False)
    return "".join(("{}" if before + each in _LIGATURES else "") + _letter(each) for before, each in pairs)


def running(words: str) -> str:
    """As `plain`, for a paragraph: a word too long for a line may break anywhere."""
    cut = ([word[at : at + _LONG] for at in range(0, len(word), _LONG)] for word in _normal(words).split())
    return " ".join(r"\allowbreak{}".join(map(plain, parts)) for parts in cut)


def width(words: str) -> float:
    """About how wide LaTeX sets a text, a digit being 1."""
    return sum(map(_width, _normal(words)))


def _normal(words: str) -> str:
    """One way to write accents, one space between words."""
    return " ".join(unicodedata.normalize("NFC", words).split())


def _letter(letter: str) -> str:
    if letter in _TEXT:
        return _TEXT[letter]
    if letter in _MATH:
        return _MATH[letter]
    if " " <= letter <= "~":
        return letter
    kind, *codes = unicodedata.decomposition(letter).split() or [""]
    if not kind.startswith("<"):
        kind, codes = "", [kind, *codes]
    parts = [chr(int(code, 16)) for code in codes if code]
    if len(parts) == 2 and parts[1] in _ACCENTS:
        return rf"\{_ACCENTS[parts[1]]}{{{_letter(parts[0])}}}"
    inner = "".join(map(_letter, parts)) or f"{{[}}U+{ord(letter):04X}]"
    return {"<super>": rf"\textsuperscript{{{inner}}}", "<sub>": rf"\textsubscript{{{inner}}}"}.get(kind, inner)


def _width(letter: str) -> float:
    if letter in _WIDTHS:
        return _WIDTHS[letter]
    if "U+" in _letter(letter):
        return width(_letter(letter))
    return (_LETTER if letter <= "~" else _OTHER) * len(unicodedata.normalize("NFKC", letter))
