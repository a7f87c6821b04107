"""Fidelity: hob's engine answers as llama.cpp does, on the same file, with each table of kernels."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "golden"))

import check_golden  # noqa: E402

MODEL = os.environ.get("HOB_TEST_MODEL")

pytestmark = [
    pytest.mark.skipif(not MODEL, reason="HOB_TEST_MODEL names no model file"),
    pytest.mark.skipif(not os.environ.get("HOB"), reason="HOB names no binary"),
]


@pytest.mark.parametrize("kernels", ["avx2", "avx512"])
def test_greedy_answers_agree_with_llama_cpp(kernels):
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    if {"avx2": "avx2", "avx512": "avx512_vnni"}[kernels] not in flags:
        pytest.skip(f"this CPU has no {kernels}")
    result = check_golden.check(MODEL, kernels)
    parted = [(prompt, gap) for prompt, equal, gap in result if not equal]
    assert len(result) == 20
    assert len(result) - len(parted) >= check_golden.BAR, parted
    assert all(gap < check_golden.MAX_GAP for _, gap in parted), parted
