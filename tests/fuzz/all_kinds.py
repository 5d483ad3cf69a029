"""Every kind of input by its name."""

from __future__ import annotations

from tests.fuzz import config_kinds, data_kinds, onnx_kinds, run_kinds
from tests.fuzz.kinds import by_name

KINDS = by_name([*data_kinds.KINDS, *run_kinds.KINDS, *config_kinds.KINDS, *onnx_kinds.KINDS])
