"""Load configurations, tokenizers and weights from a folder or the hub; what does not fit is an error, not a warning."""

from __future__ import annotations

import importlib.util
import logging
import pickle
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm_lab import hub_access
from minilm_lab.errors import LabError, first_line
from minilm_lab.paths import is_there

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

#: Buffers that old checkpoints hold and no model reads.
_BUFFERS = re.compile(r"(.*\.)?(position_ids|token_type_ids|inv_freq|attn\.(masked_)?bias|rotary_emb\..*)")
#: What wrappers put into the names of weights: DataParallel and Lightning before, compile, FSDP and checkpoints within.
_WRAPPERS = {
    r"^((module|model)\.)+": "",
    r"(^|(?<=\.))_(orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)\.": "",
}


def load_config(where: str, revision: str | None, what: str, **settings: Any) -> PretrainedConfig:
    """Read a model's configuration from a folder or the hub.

    LabError if it cannot be read, or asks for positions that the installed library no longer computes.
    """
    from transformers import AutoConfig

    config: PretrainedConfig = _load(AutoConfig, where, revision, what, **settings)
    positions = getattr(config, "position_embedding_type", None) or "absolute"
    if positions not in ("absolute", "rotary"):
        raise LabError(
            f"{what}: config.json of {where} has position_embedding_type={positions}, which this version of "
            "transformers passes over: it would compute another model. Give a model with absolute positions"
        )
    return config


def load_tokenizer(where: str, revision: str | None, what: str, **settings: Any) -> PreTrainedTokenizerBase:
    """Load a model's fast tokenizer from a folder or the hub.

    LabError if it cannot be read, needs a package that is not there, or holds nothing but special tokens.
    """
    from transformers import AutoTokenizer

    _check_packages(Path(where), what)
    tokenizer: PreTrainedTokenizerBase = _load(AutoTokenizer, where, revision, what, **settings)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # the library makes one of nothing
        raise LabError(f"{what}: the tokenizer of {where} has no words; save it there with save_pretrained")
    return tokenizer


def load_body(where: str, revision: str | None, what: str, **settings: Any) -> PreTrainedModel:
    """Load a model without a task head, in float32; `settings` go to from_pretrained. LabError as `load_model`."""
    from transformers import AutoModel

    return load_model(AutoModel, where, revision, what, **settings)[0]


def load_model(
    loader: Any, where: str, revision: str | None, what: str, **settings: Any
) -> tuple[PreTrainedModel, list[str]]:
    """Load a model in float32; also name the parameters of its head that its weights lack, which were drawn at random.

    loader: AutoModel or one of its kind with a head; `settings` go to from_pretrained.

    LabError if the weights cannot be read, lack a parameter of the body, or hold one that the body has no place for:
    the library would only warn. Poolers may be missing: many checkpoints are saved without.
    """
    import torch

    # Sizes that differ: a new head takes the place of one of other classes; anything else is refused below.
    reports = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    settings = {"dtype": torch.float32, **settings, **reports}
    model, found = _load(loader, where, revision, what, **settings)
    lacks = _of_body(found["missing_keys"], model)
    if lacks:  # perhaps only under other names
        wrapped, again = _load(loader, where, revision, what, **settings, key_mapping=_WRAPPERS)
        if not _of_body(again["missing_keys"], wrapped):
            log.info("%s was saved inside a wrapper (module., _orig_mod., model.); its weights fit", where)
            model, found, lacks = wrapped, again, []
    kind = f"of a '{model.config.model_type}' model"
    _refuse(lacks, f"{what}: the weights of {where} lack", kind)
    unused = _of_body(found["unexpected_keys"], model)
    if "num_hidden_layers" in settings:  # the upper layers were not asked for
        depth = int(settings["num_hidden_layers"])
        unused = [n for n in unused if not any(int(i) >= depth for i in re.findall(r"(?<=\.)\d+(?=\.)", n))]
    _refuse(
        unused,
        f"{what}: the weights of {where} hold",
        f"without a place in the '{model.config.model_type}' model of its config.json",
    )
    sizes = {
        name: f"{name}: {tuple(there)} for {tuple(asked)}" for name, there, asked in found["mismatched_keys"]
    }
    whole = model.base_model is model
    inside = {name for name in sizes if whole or name.startswith(f"{model.base_model_prefix}.")}
    _refuse(
        [sizes[name] for name in sorted(inside)], f"{what}: the weights of {where} have other sizes in", kind
    )
    if head := sorted(sizes.keys() - inside):
        shown = ", ".join(sizes[name] for name in head)
        log.warning(
            "%s: the head of %s has other sizes (%s); a new one is drawn at random", what, where, shown
        )
    new = {*found["missing_keys"], *sizes} if not whole else set()
    return model, sorted(name for name in new if not name.startswith(f"{model.base_model_prefix}."))


def _of_body(names: Iterable[str], model: PreTrainedModel) -> list[str]:
    """Of these names of parameters those inside of the body, poolers apart."""
    children = {name for name, _ in model.base_model.named_children()} - {"pooler"}
    prefix = f"{model.base_model_prefix}."
    inside = []
    for name in sorted(names):
        within = name.removeprefix(prefix)
        if _BUFFERS.fullmatch(name) or within.startswith("pooler."):
            continue
        # What a head keeps beside the body may be called anything; what is under the prefix is the body's.
        if within != name or (within.partition(".")[0] in children):
            inside.append(name)
    return inside


def _refuse(names: list[str], about: str, which: str) -> None:
    """LabError that tells the first of these parameters, where there are any."""
    if names:
        shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
        raise LabError(
            f"{about} {len(names)} parameters {which} ({shown}); save config and weights together with save_pretrained"
        )


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, name: str) -> None:
    """Raise LabError if a tokenizer cannot read a text, or gives ids that the model of `config` does not embed."""
    try:
        tokenizer("a text, \u00e9\u732b")
        largest = max(tokenizer.get_vocab().values())
    except Exception as error:  # the reader of tokenizer.json takes what the tokenizer cannot work with
        raise LabError(
            f"the tokenizer of {name} cannot read a text ({first_line(error)}); is it whole?"
        ) from error
    if largest >= config.vocab_size:
        raise LabError(
            f"the tokenizer of {name} has tokens up to id {largest} ({len(tokenizer)} tokens), the model embeds "
            f"{config.vocab_size}: they do not belong together"
        )


def _load(loader: Any, where: str, revision: str | None, what: str, **settings: Any) -> Any:
    local = is_there(Path(where)) and Path(where).is_dir()
    try:
        # Without an answer from the hub, what was downloaded before is used, at once.
        cached = not local and (hub_access.offline() or not hub_access.answers(where, "model"))
        # Code that comes with a model runs only where a caller says so.
        settings = {"trust_remote_code": False, **settings}
        return loader.from_pretrained(where, revision=revision, local_files_only=local or cached, **settings)
    except pickle.UnpicklingError as error:
        raise LabError(
            f"{what}: the weights of {where} are a pickle file that holds more than numbers; it was not opened, since "
            "opening it would run code. Get them as model.safetensors"
        ) from error
    except Exception as error:  # a damaged file raises whatever its reader stumbles over
        if local:
            raise LabError(f"{what}: {where} cannot be read ({first_line(error)})") from error
        raise LabError(
            f"{what}: '{where}' cannot be loaded from the hub ({first_line(error)}). Without a network, "
            "point to a folder: teacher=path teacher.path=<folder with model and tokenizer>, "
            "or use a teacher that comes as a package: teacher=all_minilm_l6"
        ) from error


def _check_packages(folder: Path, what: str) -> None:
    """LabError that names the package, where a tokenizer is there only in a form that needs one."""
    if not folder.is_dir() or any(
        (folder / name).is_file() for name in ("tokenizer.json", "vocab.txt", "vocab.json")
    ):
        return
    pieces = sorted(file.name for file in folder.glob("*.model"))
    if pieces and any(_absent(name) for name in ("sentencepiece", "google.protobuf")):
        raise LabError(
            f"{what}: {folder} has its tokenizer only in SentencePiece's form ({', '.join(pieces)}), which needs a "
            "package: pip install 'minilm-lab[sentencepiece]', or save tokenizer.json there"
        )


def _absent(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is None
    except ModuleNotFoundError:
        return True
