"""Writes weights/faces from the two packages that its README names; run once, by hand.

    python -m weights.convert_faces mtcnn-1.0.0-py3-none-any.whl vladmandic-face-api-1.7.15.tgz

Needs joblib and lz4, which nothing else here does: mtcnn's weights are lz4-packed pickles, opened
only after the file's hash was seen to be the known one. What is written holds no code.
"""

import hashlib
import importlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

FOLDER = Path(__file__).parent / "faces"
MTCNN_SHA256 = "0a96b4868e56db9ae984449519642be6dba03240e608a67e928ebb47833e9144"
FACE_API_SHA256 = "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031"

# Layers in the order of mtcnn's files. A convolution and a dense layer have weight and bias, a
# PReLU a slope; a dense layer after convolutions has the (height, width, channels) that it reads.
_CONVOLUTION, _DENSE, _SLOPE = "convolution", "dense", "slope"
_PROPOSAL = (
    *(("conv1", _CONVOLUTION), ("slope1", _SLOPE), ("conv2", _CONVOLUTION), ("slope2", _SLOPE)),
    *(("conv3", _CONVOLUTION), ("slope3", _SLOPE), ("box", _CONVOLUTION), ("face", _CONVOLUTION)),
)
_REFINEMENT = (
    *(("conv1", _CONVOLUTION), ("slope1", _SLOPE), ("conv2", _CONVOLUTION), ("slope2", _SLOPE)),
    *(("conv3", _CONVOLUTION), ("slope3", _SLOPE), ("dense", _DENSE), ("slope4", _SLOPE)),
    *(("box", _DENSE), ("face", _DENSE)),
)
_OUTPUT = (
    *(("conv1", _CONVOLUTION), ("slope1", _SLOPE), ("conv2", _CONVOLUTION), ("slope2", _SLOPE)),
    *(("conv3", _CONVOLUTION), ("slope3", _SLOPE), ("conv4", _CONVOLUTION), ("slope4", _SLOPE)),
    *(("dense", _DENSE), ("slope5", _SLOPE)),
    *(("box", _DENSE), ("landmarks", _DENSE), ("face", _DENSE)),
)
_NETWORKS = {"proposal": _PROPOSAL, "refinement": _REFINEMENT, "output": _OUTPUT}
_SHAPE_BEFORE_DENSE = {"refinement": (3, 3, 64), "output": (3, 3, 128)}


def main() -> None:
    wheel, tarball = (Path(argument).read_bytes() for argument in sys.argv[1:3])
    _check("mtcnn", wheel, MTCNN_SHA256)
    _check("face-api", tarball, FACE_API_SHA256)
    FOLDER.mkdir(exist_ok=True)
    save_file(_mtcnn(wheel), FOLDER / "mtcnn.safetensors")
    save_file(_recognition(tarball), FOLDER / "recognition.safetensors")
    for path in sorted(FOLDER.glob("*.safetensors")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.chmod(0o644)
        sys.stdout.write(f"{digest}  {path.name}\n")


def _check(name: str, data: bytes, expected: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise SystemExit(f"{name}: its SHA-256 is {found}, not {expected}: not the known release.")


def _mtcnn(wheel: bytes) -> dict[str, np.ndarray]:
    """mtcnn's three networks in torch's layouts, as `network.layer.weight`."""
    joblib = importlib.import_module("joblib")  # (only here, and without types)

    tensors = {}
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        for network, layers in _NETWORKS.items():
            packed = archive.read(f"mtcnn/assets/weights/{network[0]}net.lz4")
            arrays = iter(joblib.load(io.BytesIO(packed)))
            for layer, kind in layers:
                weight = next(arrays)
                if kind == _SLOPE:
                    tensors[f"{network}.{layer}.weight"] = weight.reshape(-1)
                    continue
                if kind == _CONVOLUTION:
                    weight = weight.transpose(3, 2, 0, 1)
                elif layer == "dense":
                    weight = _after_convolutions(weight, _SHAPE_BEFORE_DENSE[network])
                else:
                    weight = weight.T
                tensors[f"{network}.{layer}.weight"] = np.ascontiguousarray(weight)
                tensors[f"{network}.{layer}.bias"] = next(arrays)
            assert not list(arrays), f"{network}: more arrays than layers"
    return tensors


def _after_convolutions(weight: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """For inputs flattened as width, height, channels -> for torch's channels, height, width."""
    height, width, channels = shape
    by_axis = weight.reshape(width, height, channels, -1)
    return by_axis.transpose(3, 2, 1, 0).reshape(weight.shape[1], -1)


def _recognition(tarball: bytes) -> dict[str, np.ndarray]:
    """dlib's face recognition network, quantized to 8 bits by face-api.

    Each layer's numbers are `weight * range[0] + range[1]`, times the `scale` of its channel.
    """
    with tarfile.open(fileobj=io.BytesIO(tarball)) as archive:
        numbers = _read(archive, "face_recognition_model.bin")
        manifest = json.loads(_read(archive, "face_recognition_model-weights_manifest.json"))
    arrays, start = {}, 0
    for entry in manifest[0]["weights"]:
        # (Eight layers were never quantized.)
        found = entry.get("quantization", {"dtype": entry["dtype"], "scale": 1.0, "min": 0.0})
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(numbers, found["dtype"], count, start)
        scale_and_least = np.array([found["scale"], found["min"]], np.float32)
        arrays[entry["name"]] = (values.reshape(entry["shape"]), scale_and_least)
        start += values.nbytes
    assert start == len(numbers)

    def exact(name: str) -> np.ndarray:
        values, (scale, least) = arrays[name]
        return values.astype(np.float32) * scale + least

    tensors = {"fc.weight": exact("fc").T.copy()}
    for name, (values, scale_and_least) in arrays.items():
        if name.endswith("/conv/filters"):
            layer = name.removesuffix("/conv/filters")
            scale = exact(f"{layer}/scale/weights")
            bias = exact(f"{layer}/conv/bias") * scale + exact(f"{layer}/scale/biases")
            key = layer.replace("/", ".")
            tensors[f"{key}.weight"] = np.ascontiguousarray(values.transpose(3, 2, 0, 1))
            tensors[f"{key}.range"] = scale_and_least
            tensors[f"{key}.scale"] = scale
            tensors[f"{key}.bias"] = bias
    return tensors


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(f"package/model/{name}")
    assert file is not None
    return file.read()


if __name__ == "__main__":
    main()
