"""A folder with adapters alone, as a model: merged once into the model that it names, in the cache."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm_lab import hub_access
from minilm_lab.atomic import whole_folder
from minilm_lab.errors import LabError, first_line
from minilm_lab.models.adapters import CONFIG, base_of, import_peft, is_adapter, load_adapter, merged
from minilm_lab.models.folders import MERGED, TOKENIZERS, WEIGHTS, folder_checksum, model_folder, snapshot
from minilm_lab.paths import is_there
from minilm_lab.runs.files import read_json

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel

log = logging.getLogger(__name__)

#: What peft calls a kind of model -> the library's loader.
_LOADERS = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
    "CAUSAL_LM": "AutoModelForCausalLM",
    "FEATURE_EXTRACTION": "AutoModel",
}
#: Maps whose first size is the number of classes.
_CLASSES = ("classifier.weight", "out_proj.weight", "score.weight")
_PREFIX = "base_model.model."
#: Of sentence-transformers; see models.pooling.
_SENTENCES = ("modules.json", "config_sentence_transformers.json", "sentence_*_config.json", "[0-9]*_*/*")


def usable_folder(folder: Path, cache: Path, what: str) -> Path:
    """As `model_folder`; of a folder that peft wrote, with adapters alone, the model with these merged into it.

    cache: ``paths.cache``, where merged models are kept, by the content of adapter and model.

    LabError, naming the setting `what`, if the model that the adapter names is not here or does not fit, and for
    adapters that are no part of weights (prompts).
    """
    if is_there(folder) and folder.is_dir():
        folder = snapshot(folder, what)
        if is_adapter(folder):
            return _merged(folder, cache, what)
    return model_folder(folder, what)


def _merged(folder: Path, cache: Path, what: str) -> Path:
    if both := [name for name in WEIGHTS if (folder / name).is_file()]:
        raise LabError(
            f"{what}: {folder} holds adapters ({CONFIG}) and a whole model ({both[0]}), and which is meant is not "
            f"known; move one of them elsewhere"
        )
    base, revision = base_of(folder)
    place, base_revision = _base(base, revision, folder, cache, what)
    origin = folder_checksum(Path(place), cache) if Path(place).is_dir() else f"{place}@{base_revision}"
    key = hashlib.blake2b(f"{folder_checksum(folder, cache)}\0{origin}".encode(), digest_size=16).hexdigest()
    target = cache / MERGED / key
    if not target.is_dir():
        log.info("%s: the adapter %s is merged into %s, in %s", what, folder, base, target)
        _write(folder, place, base_revision, target, what)
    return target


def _base(base: str, revision: str | None, folder: Path, cache: Path, what: str) -> tuple[str, str | None]:
    """The folder or hub id of the adapted model; a relative path is one from here or from the adapter's folder."""
    for candidate in (Path(base).expanduser(), folder / base):
        if is_there(candidate) and candidate.is_dir():
            return str(usable_folder(candidate, cache, f"{what}: the model of the adapter {folder}")), None
    if base.startswith((".", "/", "~")) or base.count("/") > 1:
        raise LabError(
            f"{what}: {folder}/{CONFIG} names {base} as the model that it adapts, which is not here: write the folder or "
            "hub id of that model into base_model_name_or_path"
        )
    return base, revision


def _write(folder: Path, base: str, revision: str | None, target: Path, what: str) -> None:
    import torch

    from minilm_lab.models import sources

    peft = import_peft()
    about = f"{what}: the model of the adapter {folder}"
    config = sources.load_config(base, revision, about)
    try:
        weights = peft.load_peft_weights(str(folder), device="cpu")
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        raise LabError(f"{what}: the adapter {folder} cannot be read ({first_line(error)})") from error
    loader, settings = _loader(folder, config, weights, what)
    with torch.random.fork_rng(devices=[]):  # of the head that the adapter brings, or that a task draws anew
        torch.default_generator.manual_seed(0)  # torch.manual_seed would reseed the GPUs too
        model, drawn = sources.load_model(loader, base, revision, about, **settings)
        _widen(model, weights)
        adapted = load_adapter(model, folder)
    _check(peft, adapted, weights, folder, what)
    own = any((folder / name).is_file() for name in TOKENIZERS)
    tokenizer = sources.load_tokenizer(*((str(folder), None) if own else (base, revision)), what)
    ids = torch.tensor([tokenizer("A text, on which both are compared.")["input_ids"]])
    if not hasattr(adapted, "merge_and_unload"):
        raise LabError(
            f"{what}: {folder} holds adapters of type {adapted.peft_config['default'].peft_type.value}, which are no "
            "part of a model's weights; give adapters that can be merged, such as LoRA"
        )
    whole: Any = merged(adapted, ids)
    if lacking := [name for name in drawn if f"{_PREFIX}{name}" not in weights]:
        if type(whole).__name__.endswith("ForCausalLM"):
            raise LabError(
                f"{about}: its weights have no language-model head ({', '.join(lacking[:3])}), and neither has the adapter"
            )
        # A head that nobody brings would be drawn at random, and taken for a trained one.
        log.info("%s: the adapter %s brings no head; the body alone is the model", what, folder)
        whole = whole.base_model
    sources.check_tokenizer(tokenizer, whole.config, str(folder))
    with whole_folder(target, alone=False) as new:
        whole.save_pretrained(new)
        tokenizer.save_pretrained(new)
        _copy_sentences(folder, base, revision, new)
        (new / "README.md").write_text(
            f"---\nlicense: other\ntags: [minilm-lab]\n---\n# {folder.name}\n\n| | |\n|---|---|\n"
            f"| adapter, merged | {folder.name} |\n| adapted model | {Path(base).name if Path(base).is_dir() else base} |\n",
            encoding="utf-8",
        )


def _loader(
    folder: Path, config: PretrainedConfig, weights: Mapping[str, Tensor], what: str
) -> tuple[Any, dict[str, Any]]:
    """The class that the adapters were put on, and settings of its from_pretrained."""
    import transformers

    about = read_json(folder / CONFIG) or {}
    name = _LOADERS.get(about.get("task_type") or "")
    if name is None and about.get("task_type"):
        raise LabError(
            f"{what}: {folder}/{CONFIG} has task_type={about['task_type']}; the lab reads {', '.join(_LOADERS)}"
        )
    if name is None:
        name = (about.get("auto_mapping") or {}).get("base_model_class") or ""
    if not hasattr(
        transformers, name
    ):  # nothing is said, or a class of somebody else's: the names of the weights say it
        body: Any = transformers.AutoModel._model_mapping[type(config)]
        inside = any(key.startswith(f"{_PREFIX}{body.base_model_prefix}.") for key in weights)
        name = (config.architectures or ["AutoModel"])[0] if inside else "AutoModel"
    heads = [tensor for key, tensor in weights.items() if key.endswith(_CLASSES) and "lora_" not in key]
    classes = {"num_labels": int(heads[-1].shape[0])} if heads and "Classification" in name else {}
    return getattr(transformers, name), classes


def _widen(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> None:
    """Give the model as many embeddings as the adapter brings, where it brings them (of added tokens)."""
    embeddings: Any = model.get_input_embeddings()
    place = next(name for name, module in model.named_modules() if module is embeddings)
    brought = weights.get(f"{_PREFIX}{place}.weight")
    if brought is not None and len(brought) != embeddings.num_embeddings:
        model.resize_token_embeddings(len(brought), mean_resizing=False)


def _check(peft: Any, adapted: Any, weights: Mapping[str, Tensor], folder: Path, what: str) -> None:
    """LabError unless every weight of the adapter has its place, and every place its weight."""
    there = set(peft.get_peft_model_state_dict(adapted, save_embedding_layers=False))
    found = {name for name in weights if "embed" not in name or name in there}
    if odd := sorted(found ^ there):
        raise LabError(
            f"{what}: the adapter {folder} does not fit the model that it names: {len(odd)} weights without a place, or "
            f"places without weights ({', '.join(odd[:3])})"
        )


def _copy_sentences(folder: Path, base: str, revision: str | None, new: Path) -> None:
    """What makes it a folder of sentence-transformers: from the adapter's, else from that of the adapted model."""
    places = [folder, Path(base)]
    if not places[1].is_dir():
        from huggingface_hub import snapshot_download

        cached = hub_access.offline() or not hub_access.answers(base, "model")
        places[1] = Path(
            snapshot_download(
                base, revision=revision, allow_patterns=list(_SENTENCES), local_files_only=cached
            )
        )
    place = next((place for place in places if (place / "modules.json").is_file()), None)
    for pattern in _SENTENCES if place is not None else ():
        assert place is not None
        for file in place.glob(pattern):
            copy = new / file.relative_to(place)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, copy)
