"""weights/manifest.py pins what is fetched; weights/clip holds what every checkpoint needs."""

import hashlib
import re
from pathlib import Path

import pytest

from weights.clip.vocabulary import write_vocabulary
from weights.manifest import MODELS


def test_the_vocabulary_is_the_one_that_the_hub_has(tmp_path: Path) -> None:
    """The hashes are the manifest's, which come from elsewhere than weights/clip."""
    write_vocabulary(tmp_path)

    for model in MODELS.values():
        for name in ("merges.txt", "vocab.json"):
            pinned = model.files[f"tokenizer/{name}"]
            contents = (tmp_path / name).read_bytes()
            assert len(contents) == pinned.size
            assert hashlib.sha256(contents).hexdigest() == pinned.sha256


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_manifest_pins_everything(name: str) -> None:
    model = MODELS[name]
    assert re.fullmatch("[0-9a-f]{40}", model.revision)
    for path, file in model.files.items():
        assert re.fullmatch("[0-9a-f]{64}", file.sha256), path
        assert file.size > 0
        assert path.endswith((".json", ".txt", ".fp16.safetensors"))
    assert not [path for path in model.files if "safety" in path]
    assert len({file.sha256 for file in model.files.values()}) == len(model.files)
    assert model.card["name"] == name
