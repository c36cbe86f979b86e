"""Files of weights, and models of other programs: what such a file is, and what to give instead.

Headers of safetensors and GGUF are read, nothing else; a pickle's classes are listed, none is made. Where a config.json of
transformers stands beside weights, that is the model, and a note says what the file stores.
"""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from roofline.errors import UsageError
from roofline.sources.source import Kind, Source, file_at
from roofline.sources.transformers import TRANSFORMERS

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".jit", ".ts", ".torchscript")
HEADERS = (".safetensors", ".gguf")
INDEX = ".safetensors.index.json"
# Whose format a suffix is, and how to come from there to what is read here.
OTHERS = {
    ".tflite": "a model of TensorFlow Lite", ".h5": "a file of Keras", ".keras": "a model of Keras",
    ".pb": "a graph of TensorFlow", ".mlmodel": "a model of Core ML", ".mlpackage": "a model of Core ML",
    ".engine": "an engine of TensorRT", ".plan": "an engine of TensorRT", ".trt": "an engine of TensorRT",
    ".pte": "a program of ExecuTorch", ".ptl": "a model of PyTorch Mobile", ".ort": "a model of ONNX Runtime's own format",
    ".pdmodel": "a model of Paddle", ".msgpack": "weights of Flax", ".mnn": "a model of MNN", ".npz": "arrays of NumPy",
}  # fmt: skip
INSTEAD = "name the Python file and class instead (net.py:Net), or torch.export.save it and give the .pt2 file"


class Checkpoint(Kind):
    """A file of weights beside its configuration; any other is refused with what it is."""

    name = "checkpoint"

    def find(self, text: str) -> Source | None:
        suffix = Path(text).suffix.lower()
        if ":" in text or not (text.endswith(INDEX) or suffix in (*PICKLES, *HEADERS, *OTHERS)):
            return None
        if suffix in OTHERS:
            file_at(text)
            raise UsageError(
                f"{text} is {OTHERS[suffix]}, which is not read here"
                "\ngive the PyTorch model that it was made from (net.py:Net), or an export of it (.pt2, .onnx)"
            )
        if suffix in PICKLES:
            file_at(text)
            raise UsageError(_pickled(text))
        from roofline.sources.checkpoints import headers

        path = file_at(text)
        said = headers.index(path) if text.endswith(INDEX) else headers.read(path)
        config = path.parent / "config.json"
        if not config.is_file():
            raise UsageError(
                f"{text} holds weights and no model: {said}"
                "\nput the model's config.json beside it, or name the model: hf:LlamaForCausalLM, net.py:Net"
            )
        found = TRANSFORMERS.named(str(config))
        return replace(found, notes=(*found.notes, f"{path.name} stores {said}; the model is the config.json beside it"))


def _pickled(text: str) -> str:
    """What to say of a pickled file; it is looked into where it is there."""
    from roofline.sources.checkpoints import headers

    what = headers.pickled(Path(text).expanduser())
    if what == "TorchScript":
        return (
            f"{text} is a program of TorchScript, which runs code when it is loaded, so it is refused"
            "\nname the Python file and class that it was made from (net.py:Net), or give the module to roofline.analyze()"
        )
    if what:
        return f"{text} holds {what}; to open a pickle is to run it, so it is refused\n{INSTEAD}"
    return f"{text}: a pickled model runs code when it is loaded, so it is refused; {INSTEAD}"


CHECKPOINT = Checkpoint()
