"""What is not needed is not imported: each import is waited for at every cold start."""

import subprocess
import sys
from functools import cache

import pytest

from tests.conftest import REPOSITORY

# Module -> why a run can do without it.
NOT_FOR_TRAINING = {
    "diffusers.pipelines": "pipelines draw pictures; training takes the models apart",
    "transformers.pipelines": "the same, of another library",
    "torch._inductor.compile_fx": "compiles, where torch.compile is called",
    "preprocessing.portraits": "networks that find faces: only with task=face",
    "weights.download": "the service is offline; its weights are in the image",
    "cli": "commands use the service, not the other way round",
    "benchmarks": "they measure it",
    "tests": "they try it",
    "skimage": "the tests' photographs",
}
# Tools that are to answer at once, and the processes in which photos are decoded.
LIGHT = ("cli.inspect", "preprocessing.decode_worker", "weights.manifest")
NOT_FOR_PICTURES = ("torch", "transformers", "diffusers", "scipy", "skimage")


@cache
def modules_after(statement: str) -> frozenset[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return frozenset(run.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("module", NOT_FOR_TRAINING)
def test_the_server_starts_without_what_its_runs_do_not_need(module):
    loaded = modules_after("import predict")
    assert "training.pivotal" in loaded
    assert module not in loaded, NOT_FOR_TRAINING[module]


@pytest.mark.parametrize("light", LIGHT)
def test_what_only_handles_pictures_starts_without_the_libraries_of_models(light):
    loaded = modules_after(f"import {light}")
    assert light in loaded
    assert loaded.isdisjoint(NOT_FOR_PICTURES)


@pytest.mark.slow
def test_converting_a_file_starts_without_diffusers_and_transformers():
    loaded = modules_after("import cli.convert")
    assert "training.formats.table" in loaded
    assert loaded.isdisjoint(("transformers", "diffusers", "peft"))
