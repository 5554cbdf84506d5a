"""Several processes train one LoRA: as one alone would with their batch, or they all end."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from preprocessing.prepare import prepare_examples
from tests.conftest import REPOSITORY
from tests.pictures import write_photos
from training.base_model import BaseModel
from training.formats.table import read_lora
from training.parallel import (
    ALONE,
    Processes,
    is_one_of_several,
    require_own_gpu,
    speaker,
)
from training.pivotal import train
from training.settings import SettingsError, TrainingInputs, share_out, translate
from training.trained_lora import TrainedLora

LAUNCHED = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}
TYPED = "--task style --max_train_steps_ti 13 --max_train_steps_tuning 11 --save_precision fp32"


def test_a_process_of_its_own_exchanges_nothing() -> None:
    batch = (torch.rand(2, 3), torch.rand(2))

    assert ALONE.own_rows(batch) is batch
    assert ALONE.average(batch[0]) is batch[0]
    assert ALONE.of_first(lambda: "made here") == "made here"


@pytest.mark.slow
def test_starting_alone_does_not_ask_accelerate_for_anything() -> None:
    """Its state of processes takes time and cannot be made undone."""
    asked = (
        "import sys, torch; from datetime import timedelta;"
        "from training.parallel import joined_processes, ALONE;"
        "manager = joined_processes(torch.device('cpu'), timedelta(seconds=1));"
        "assert manager.__enter__() == (torch.device('cpu'), ALONE);"
        "sys.exit('accelerate' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", asked], cwd=REPOSITORY, check=True)


def test_the_processes_part_a_batch_between_them() -> None:
    latents, timesteps = torch.rand(6, 4, 8, 8), torch.arange(6)
    parts = [Processes(num=3, index=index).own_rows((latents, timesteps)) for index in range(3)]

    assert torch.equal(torch.cat([part[0] for part in parts]), latents)
    assert [part[1].tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("num", "inversion", "tuning"), [(1, 350, 700), (2, 175, 350), (3, 117, 234)]
)
def test_as_many_pictures_are_seen_in_fewer_updates(num: int, inversion: int, tuning: int) -> None:
    """Rounded up: each process sees as many per update as it would alone."""
    alone = translate(TrainingInputs())
    shared = share_out(alone, num)

    assert (shared.inversion.num_updates, shared.tuning.num_updates) == (inversion, tuning)
    assert (shared.inversion.batch_size, shared.tuning.batch_size) == (2 * num, num)
    assert shared.tuning.unet_learning_rate == alone.tuning.unet_learning_rate
    assert share_out(alone, 1) == alone


def test_asking_for_more_processes_than_there_are_gpus_is_a_mistake_that_is_told() -> None:
    with pytest.raises(SettingsError, match="there are 2 here: start --num_processes 2"):
        require_own_gpu(2, num_gpus=2)
    require_own_gpu(1, num_gpus=2)


def test_only_the_others_say_who_they_are() -> None:
    assert speaker({}) == speaker(LAUNCHED | {"RANK": "0"}) == ""
    assert speaker(LAUNCHED) == "process 2 of 2: "


def test_several_processes_are_known_by_what_a_launcher_says() -> None:
    assert is_one_of_several(LAUNCHED)
    assert not is_one_of_several({})
    assert not is_one_of_several({"ACCELERATE_USE_CPU": "True"})  # --num_processes 1
    with pytest.raises(SettingsError, match="started one process"):
        is_one_of_several({"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"})


def launch(folder: Path, *how: str, archive: str) -> "subprocess.CompletedProcess[str]":
    """accelerate launch ... -m training, as it is typed."""
    command = ["accelerate", "launch", *how, "--num_processes", "2", "--main_process_port", "0"]
    command += ["-m", "training", archive, "--out", "out/photos.safetensors", *TYPED.split()]
    variables = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | variables | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.slow
def test_two_processes_learn_what_one_with_their_batch_learns(
    base: BaseModel, tmp_path: Path
) -> None:
    archive = write_photos(tmp_path, range(3))
    run = launch(tmp_path, "--multi_gpu", archive=archive.name)
    assert run.returncode == 0, run.stderr

    inputs: dict[str, Any] = {**base.card.recommended, "task": "style"}
    inputs |= {"max_train_steps_ti": 13, "max_train_steps_tuning": 11}
    settings = share_out(translate(TrainingInputs(**inputs)), 2)
    examples = prepare_examples(
        archive=archive, urls=(), task="style", resolution=64, custom_prompts=()
    ).examples
    alone = train(base, examples, settings, lambda progress: None)

    report = json.loads((tmp_path / "out/photos.safetensors.report.json").read_text())
    assert [len(history.losses) for history in alone.histories] == [4, 6]  # of 7 and of 11
    for history in alone.histories:
        told = report["phases"][history.name]
        assert told["num_steps"] == {"inversion": 4 * 4, "tuning": 6 * 2}[history.name]
        assert told["losses"] == pytest.approx(history.losses, rel=1e-4, abs=1e-5)  # 5 digits
    found = read_lora(tmp_path / "out/photos.safetensors").lora
    assert apart(effect(found), effect(alone.lora)) < 1e-3
    for word, row in alone.lora.embeddings.items():
        assert apart(found.embeddings[word], row) < 1e-3
    assert run.stdout.count("wrote out/") == 5  # the second process says and writes nothing
    assert run.stdout.count("2 processes share each batch") == 1


def effect(lora: TrainedLora) -> torch.Tensor:
    """What the LoRA adds to all weights."""
    pairs = (*lora.unet.items(), *lora.text_encoder.items())
    return torch.cat([(pair.up @ pair.down).flatten() for _, pair in sorted(pairs)])


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.slow
def test_a_mistake_ends_all_processes_and_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "notes.zip").write_text("no zip at all")
    run = launch(tmp_path, "--multi_gpu", archive="notes.zip")

    assert run.returncode == 1
    assert run.stderr.count("neither a zip nor a picture") == 1
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.slow
def test_one_process_in_place_of_two_is_refused(tmp_path: Path) -> None:
    """accelerate starts only one with --cpu, and where there is no GPU for each."""
    run = launch(tmp_path, "--cpu", archive=write_photos(tmp_path, range(1)).name)

    assert run.returncode == 1
    assert "accelerate launch started one process" in run.stderr
    assert "give --multi_gpu" in run.stderr


def start_two(what: str, folder: Path) -> "list[subprocess.Popen[str]]":
    """As a launcher does, only sooner."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.two_processes", what, str(folder)],
            cwd=REPOSITORY,
            env=os.environ | place | LAUNCHED | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


@pytest.mark.slow
def test_both_processes_hold_the_same_to_the_bit(tmp_path: Path) -> None:
    ended = [
        (process.communicate(timeout=120)[1], process.returncode)
        for process in start_two("learn", tmp_path)
    ]
    assert [status for _, status in ended] == [0, 0], ended

    one, other = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert len(one) > 50
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(one[name].abs().max() > 0 for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["leave", "sleep"])
def test_no_process_waits_for_ever(tmp_path: Path, what: str) -> None:
    first, second = start_two(what, tmp_path)
    try:
        told = first.communicate(timeout=120)[1]
    finally:
        second.kill()
        second.communicate()

    assert first.returncode == 1
    assert "The other processes of this training have ended or do not answer" in told
    assert "Traceback" not in told
