"""Fidelity: hob's engine answers as llama.cpp does, on the same file, with each table of kernels."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "golden"))

import check_golden  # noqa: E402

MODELS = {check_golden.CHAT: "HOB_TEST_MODEL", check_golden.RAW: "HOB_TEST_MODEL2"}
FLAGS = {"avx2": "avx2", "avx512": "avx512_vnni"}

pytestmark = pytest.mark.skipif(not os.environ.get("HOB"), reason="HOB names no binary")


def model_of(name):
    path = os.environ.get(MODELS[name])
    if not path:
        pytest.skip(f"{MODELS[name]} names no model file")
    return path


def need_kernels(kernels):
    if FLAGS[kernels] not in pathlib.Path("/proc/cpuinfo").read_text():
        pytest.skip(f"this CPU has no {kernels}")


@pytest.mark.parametrize("kernels", FLAGS)
@pytest.mark.parametrize("name", MODELS)
def test_greedy_answers_agree_with_llama_cpp(name, kernels):
    need_kernels(kernels)
    result = check_golden.check(model_of(name), kernels, name)
    parted = [(prompt, gap) for prompt, equal, gap in result if not equal]
    assert len(result) == 20
    assert len(result) - len(parted) >= check_golden.BAR, parted
    assert all(gap < check_golden.MAX_GAP for _, gap in parted), parted


@pytest.mark.parametrize("kernels", FLAGS)
def test_prompts_longer_than_the_sliding_window_agree_with_llama_cpp(kernels):
    need_kernels(kernels)
    model = model_of(check_golden.RAW)
    answers = check_golden.load(check_golden.RAW)["long"]
    assert len(answers) == 2 and all(a["prompt_tokens"] > 600 for a in answers)
    result = check_golden.check(model, kernels, check_golden.RAW, "long")
    assert all(equal for _, equal, _ in result), result
