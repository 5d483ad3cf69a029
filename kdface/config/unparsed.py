"""Words that are no override of Hydra's, and the override that each may have meant."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence

from hydra.errors import OverrideParseException

from kdface.config.advice import Trial, works
from kdface.errors import UserError

_KEY = r"(?:override )?([+~]{0,2}[\w.@/]+)(?:\s*[=:]+\s*|\s+)"
_PAIR, _PAIR_OF_WORDS = (re.compile(f"{_KEY}({value})") for value in (r"\S.*", r"[^\s=]+"))  # in one word, in several


def not_parsed(error: OverrideParseException, overrides: Sequence[str], trial: Trial) -> UserError:
    """The error for a word that is not an override, with the override that it may have meant."""
    bad = str(getattr(error, "override", "") or "")
    said = str(error).removeprefix(f"Error parsing override '{bad}'\n")
    place = overrides.index(bad)
    written, near = next(
        (
            (old, new)
            for old, new in _readings(place, overrides)
            if works(new, [*overrides[: old.start], new, *overrides[old.stop :]], trial)
        ),
        (slice(place, place + 1), ""),
    )
    quoted = shlex.quote(near) if near else ""
    several = overrides[written] if written.stop - written.start > 1 else []
    functions = re.search(r"Unknown function '.*'\nAvailable: (.*)", said)
    return UserError(
        f"cannot read the override {bad!r}{_reason(bad, said)}.",
        expected=f"one of the functions {functions[1].replace(',', ', ')}"
        if functions
        else "KEY=VALUE, GROUP=CHOICE, +KEY=VALUE or ~KEY, as in Hydra",
        nearest="" if several else near,
        origin=f"command line: {bad}",
        fix=f"{quoted} in place of {' '.join(several)}" if several else quoted,
    )


def _reason(bad: str, said: str) -> str:
    """Where and why Hydra's parser, whose message was `said`, stopped reading a word."""
    if evaluated := re.match(r"\w+ while evaluating (.*)", said):
        return f": {evaluated[1]}"
    if "=" not in bad:
        return ": it has no '='"
    if any(bad.count(opening) > bad.count(closing) for opening, closing in ("[]", "{}", "()")):
        return ": a bracket is not closed"
    if marked := re.match(rf"(.*){re.escape(bad)}\n( *)\^", said):
        return f" from {bad[len(marked[2]) - len(marked[1]) :]!r} on"
    found = re.search(r"input ('.*?') expecting", said)
    return f" from {found[1]} on" if found and "<EOF>" not in found[1] else ": its value is incomplete"


def _readings(place: int, overrides: Sequence[str]) -> Iterator[tuple[slice, str]]:
    """(words, the override that they may have meant): an unreadable word, alone or with its neighbours (`seed = 1`)."""
    spans = [(place, place + 1, _PAIR)]
    if "=" not in overrides[place]:
        pairs = [(place, place + 2), (place, place + 3), (max(place - 1, 0), place + 1)]
        spans += [(*pair, _PAIR_OF_WORDS) for pair in pairs]
    for start, stop, pattern in spans:
        if found := pattern.fullmatch(" ".join(overrides[start:stop])):
            key, value = found.groups()
            arguments = re.fullmatch(r"\w+\((.*)\)", value)
            for meant in (value, *((arguments[1], f"[{arguments[1]}]") if arguments else ()), json.dumps(value)):
                yield slice(start, stop), f"{key}={meant}"
