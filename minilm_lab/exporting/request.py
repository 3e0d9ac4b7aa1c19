"""What a user asks `minilm-lab export` for."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field
from typing import Optional

from minilm_lab.errors import LabError, nearest

FORMS = ("hf", "sentence_transformers", "onnx", "onnx_int8")
HEADS = ("none", "zero", "trained")
#: Python packages behind ONNX, all of the extra `export`.
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


@dataclass
class Request:
    """The settings of an export."""

    run: str
    """Identity or name of a run, a folder that save_pretrained wrote, or a hub id."""
    out: str
    """The folder to write."""
    to: list[str] = field(default_factory=lambda: ["hf"])
    """Any of `FORMS`."""
    mlm_head: str = "none"
    """none, zero (not trained, predictions uniform) or trained (that of the checkpoint, which must carry one)."""
    normalize: Optional[bool] = None
    """sentence_transformers: scale embeddings to length 1; null = as modules.json of the model says, without one yes."""
    times: bool = False
    """Time the forward of torch and of each ONNX file, in turns, and write it into the card."""
    overwrite: bool = False
    """Replace what an earlier export wrote to `out`."""
    push: Optional[str] = None
    """Repository of the hub to upload to, <owner>/<name>."""
    private: bool = True
    """Whether a new repository is private."""

    def __post_init__(self) -> None:
        if not self.to:
            raise LabError(f"to=[] asks for nothing; give some of {', '.join(FORMS)}")
        for form in self.to:
            if form not in FORMS:
                raise LabError(f"to={form}: allowed are {', '.join(FORMS)}.{nearest(form, FORMS)}")
        if self.mlm_head not in HEADS:
            raise LabError(
                f"mlm_head={self.mlm_head}: allowed are {', '.join(HEADS)}.{nearest(self.mlm_head, HEADS)}"
            )
        if self.mlm_head != "none" and "hf" not in self.to:
            raise LabError(
                f"mlm_head={self.mlm_head} is for to=[hf]; to={self.to} holds no head. Use mlm_head=none, or add hf"
            )
        if self.push is not None and not _REPOSITORY.fullmatch(self.push):
            raise LabError(f"push={self.push} must be <owner>/<name>, a repository of the hub")
        if self.times and not self.has_onnx:
            raise LabError(
                f"times=true compares ONNX with torch; to={self.to} asks for no ONNX file: add onnx"
            )
        missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
        if self.has_onnx and missing:
            raise LabError(f"to={self.to} needs {', '.join(missing)}: pip install 'minilm-lab[export]'")

    @property
    def has_weights(self) -> bool:
        """Whether the folder holds weights for transformers."""
        return "hf" in self.to or "sentence_transformers" in self.to

    @property
    def has_onnx(self) -> bool:
        """Whether the folder holds an ONNX file."""
        return "onnx" in self.to or "onnx_int8" in self.to
